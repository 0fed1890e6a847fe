"""The status and the API in a real Chromium, and requests that a fuzzer makes of the OpenAPI description."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.server.served import ROWS, Server, serving

pytestmark = pytest.mark.slow
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,unsupported_method"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail(f"no browser found ({', '.join(NAMES)}); install one: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found)
        yield browser
        browser.close()


def opened(browser: Browser, address: str, width: int = 1280) -> tuple[Page, list[str]]:
    """The page, and all that went wrong."""
    page, wrong = browser.new_page(viewport={"width": width, "height": 900}), list[str]()
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(request.url))
    page.goto(address)
    return page, wrong


@pytest.mark.parametrize("width", [375, 1280])
def test_the_status_shows_the_model_and_its_figures(browser: Browser, server: Server, width: int) -> None:
    assert server.ask("/v1/rows", {"columns": ROWS})[0] == 200
    page, wrong = opened(browser, f"http://{server.url}/", width)
    page.wait_for_selector("#outputs td")
    text = page.inner_text("body")
    status = server.ask("/v1/status")[1]
    assert "ready" in text and status["version"] in text and "click → conversion" in text
    assert f"{status['outputs']['p_click']['mean']:.4g}"[:5] in page.inner_text("#outputs")
    unknown = page.inner_text("#columns tr:has-text('item')").split("\t")[2]
    assert unknown.endswith(" %") and abs(float(unknown[:-2]) - 100 * status["unknown"]["item"]) <= 0.0501
    assert page.evaluate("document.documentElement.scrollWidth") == width and not wrong
    page.close()


def test_the_status_goes_on_when_the_server_is_gone(browser: Browser, folder: Path) -> None:
    with serving(folder) as server:
        page, _ = opened(browser, f"http://{server.url}/")
        page.wait_for_selector("#outputs td")
    page.wait_for_selector("#state.bad")
    page.close()


def test_a_person_gives_the_key_once(browser: Browser, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("one-key\n")
    with serving(folder, "--api-keys", str(tmp_path / "keys")) as server:
        page, _ = opened(browser, f"http://{server.url}/")
        page.wait_for_selector("#key:not([hidden])")
        assert page.is_hidden("#main") and "no known API key" in page.inner_text("#state")
        page.fill("input", "one-key")
        page.click("button")
        page.wait_for_selector("#outputs td")
        page.click("text=API")
        page.wait_for_selector("main section")
        assert page.is_hidden("#key")
        page.close()


def test_the_api_lists_all_addresses(browser: Browser, server: Server) -> None:
    page, wrong = opened(browser, f"http://{server.url}/docs", 375)
    page.wait_for_selector("main section")
    assert page.locator("main section").count() == len(server.ask("/openapi.json")[1]["paths"])
    assert "/v2/models/funnel/infer" in page.inner_text("main") and not wrong
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    page.close()


def test_a_fuzzer_finds_nothing(server: Server, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"http://{server.url}/openapi.json"]
    command += ["--checks", CHECKS, "--max-examples", "15", "--seed", "1", "--no-color"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert found.returncode == 0, found.stdout[-5000:]
