"""The page in a real Chromium: it opens from disk without a word, sorts, and can be read on any screen and in any
light."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

pytestmark = pytest.mark.slow
NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail(f"no browser found ({', '.join(NAMES)}); install one: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found)
        yield browser
        browser.close()


@pytest.fixture(params=["benchmark_report", "training_report"])
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


def opened(browser: Browser, folder: Path, width: int = 1280, **settings: Any) -> tuple[Page, list[str]]:
    """The page, and all that went wrong."""
    page, wrong = browser.new_page(viewport={"width": width, "height": 900}, **settings), list[str]()
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(request.url))
    page.on("request", lambda request: wrong.append(request.url) if not request.url.startswith("file:") else None)
    page.goto((folder / "report.html").as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    return page, wrong


@pytest.mark.parametrize("width", [375, 1280])
def test_it_opens_without_a_word_and_never_scrolls_sideways(browser: Browser, folder: Path, width: int) -> None:
    page, wrong = opened(browser, folder, width)
    sizes = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert sizes == [width, width]
    outside = page.evaluate(
        "[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, pre, svg, caption')"
        " && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 99))"
    )
    assert not outside and not wrong
    page.close()


def test_every_figure_is_drawn(browser: Browser, folder: Path) -> None:
    page, _ = opened(browser, folder, 375)
    figures = page.evaluate(
        """[...document.querySelectorAll("figure svg")].map(svg => {
            const box = svg.getBoundingClientRect(), drawn = [...svg.querySelectorAll("path, use")]
            const holds = (e, room) => { const b = e.getBoundingClientRect(); return b.left >= box.left - room
                && b.right <= box.right + room && b.top >= box.top - room && b.bottom <= box.bottom + room }
            const isDrawn = e => { const b = e.getBoundingClientRect(); return b.width + b.height > 0 }
            const inside = drawn.filter(e => isDrawn(e) && holds(e, 9))
            const cut = [...svg.querySelectorAll("text")].filter(e => !holds(e, 2))
            return [svg.querySelector("title").textContent, box.width, box.height, inside.length,
                    cut.map(e => e.textContent), svg.querySelectorAll("text").length]
        })"""
    )
    assert len(figures) > 5
    for title, width, height, drawn, cut, texts in figures:
        assert width > 250 and height > 60 and drawn > 4 and texts > 3 and not cut, title
    page.close()


def values(page: Page, place: int) -> list[float | str | None]:
    """Of a column of the first table, from top to bottom."""
    found: list[str | None] = page.evaluate(
        "place => [...document.querySelector('table').tBodies[0].rows].map(r => r.cells[place].dataset.value ?? null)",
        place,
    )
    return [
        value if value is None or not re.fullmatch(r"-?[\d.]+(e-?\d+)?", value) else float(value) for value in found
    ]


def in_order(found: list[Any], sign: int) -> bool:
    """Rising or falling, with what has no value last."""
    known = [value for value in found if value is not None]
    return found == sorted(known, reverse=sign < 0) + [None] * (len(found) - len(known))


def test_clicks_sort_by_value_and_back(browser: Browser, benchmark_report: Path) -> None:
    page, wrong = opened(browser, benchmark_report)
    buttons = page.locator("table").first.locator("thead button")
    for place in range(buttons.count()):
        before, button = values(page, place), buttons.nth(place)
        head = button.locator("xpath=..")
        first = button.get_attribute("data-first") or ""
        button.click()
        assert head.get_attribute("aria-sort") == first
        assert in_order(values(page, place), -1 if first == "descending" else 1)
        button.click()
        assert head.get_attribute("aria-sort") == ("ascending" if first == "descending" else "descending")
        assert in_order(values(page, place), 1 if first == "descending" else -1)
        assert page.locator("table").first.locator("[aria-sort]").count() == 1
        button.click()
        assert head.get_attribute("aria-sort") is None and values(page, place) == before
    assert buttons.count() == 10 and not wrong
    page.close()


def test_the_keyboard_sorts_and_sees_where_it_is(browser: Browser, benchmark_report: Path) -> None:
    page, _ = opened(browser, benchmark_report)
    before = values(page, 1)
    page.locator("table").first.locator("thead button").first.focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "AUC"
    style = page.evaluate("[getComputedStyle(document.activeElement).outlineStyle, "
                          "parseFloat(getComputedStyle(document.activeElement).outlineWidth)]")  # fmt: skip
    assert style[0] == "solid" and style[1] >= 2
    page.keyboard.press("Enter")
    assert in_order(values(page, 1), -1)
    page.keyboard.press("Space")
    assert in_order(values(page, 1), 1) and sorted(map(str, values(page, 1))) == sorted(map(str, before))
    page.close()


def test_the_keyboard_opens_details_and_skips_to_the_conclusion(browser: Browser, benchmark_report: Path) -> None:
    page = browser.new_page()
    page.goto((benchmark_report / "report.html").as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.keyboard.press("Enter")
    page.wait_for_url("**#conclusion")
    model = page.locator("details.model").first
    model.locator("summary").first.focus()
    assert not model.locator("figure svg").first.is_visible()
    page.keyboard.press("Enter")
    assert model.locator("figure svg").first.is_visible()
    page.locator("button[data-open=true]").click()
    assert page.evaluate("[...document.querySelectorAll('details.model')].every(each => each.open)")
    page.close()


def luminance(colour: str) -> float:
    """Of an rgb(…) colour, as WCAG has it."""
    parts = [float(part) / 255 for part in re.findall(r"[\d.]+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_and_all_lines_stand_out(browser: Browser, folder: Path, scheme: Any) -> None:
    page, _ = opened(browser, folder, color_scheme=scheme)
    pairs = page.evaluate(
        """[...document.querySelectorAll("body *")].filter(e => !e.closest("script, style, title, wbr")).map(e => {
            let back = e
            while (back.parentElement && /, 0\\)$|transparent/.test(getComputedStyle(back).backgroundColor))
                back = back.parentElement
            const style = getComputedStyle(e), svg = e.closest("svg")
            const own = !svg ? [style.color] : e.tagName == "text" ? [style.fill] : [style.stroke, style.fill]
            return [e.tagName, svg != null, own, getComputedStyle(back).backgroundColor]
        })"""
    )
    grid = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--grid')").strip()
    pale = f"rgb({', '.join(str(int(grid[i : i + 2], 16)) for i in (1, 3, 5))})"
    assert (luminance(pairs[0][3]) > 0.5) == (scheme == "light")
    seen = set()
    for tag, is_drawn, colours, back in pairs:
        for colour in colours:
            if colour not in (pale, "none") and not (tag in ("svg", "g", "defs") and is_drawn):
                seen.add(colour)
                least = 4.5 if not is_drawn or tag == "text" else 3.0
                is_default = is_drawn and colour == "rgb(0, 0, 0)"  # a fill that nothing shows
                assert is_default or contrast(colour, back) >= least, (tag, colour, back)
    assert len(seen) >= 5
    page.close()


def test_series_are_told_apart_without_colour_too(browser: Browser, training_report: Path) -> None:
    page, _ = opened(browser, training_report)
    dashes = page.evaluate(
        "[...document.querySelector('svg:has(title)').querySelectorAll('path[stroke^=\"var(--series\"]')]"
        ".map(e => [e.getAttribute('stroke'), e.getAttribute('stroke-dasharray')])"
    )
    styles = {colour: {dash for other, dash in dashes if other == colour and dash} for colour, _ in dashes}
    assert len(styles) >= 2 and len({frozenset(found) for found in styles.values()}) == len(styles)
    page.close()


def test_it_prints(browser: Browser, folder: Path) -> None:
    page, wrong = opened(browser, folder, color_scheme="dark")
    printed = page.pdf(format="A4")
    assert printed[:5] == b"%PDF-" and len(re.findall(rb"/Type\s*/Page\b", printed)) >= 2
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 680, "height": 900})
    assert luminance(page.evaluate("getComputedStyle(document.body).backgroundColor")) > 0.9
    assert luminance(page.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill")) < 0.1
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert math.isclose(page.evaluate("document.documentElement.scrollWidth"), 680, abs_tol=1) and not wrong
    page.close()
