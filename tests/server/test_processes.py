"""A server's processes: who may ask, what ends and starts again, and bundles that take over."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from funnelcast.serving.predictor import load
from tests.server.served import COMMAND, ROWS, Server, bundle, certificate, serving

pytestmark = pytest.mark.slow
BODY = {"columns": ROWS}


def p_of(server: Server, **headers: str) -> tuple[int, Any]:
    status, answer, _ = server.ask("/v1/rows", BODY, **headers)
    return status, answer.get("columns", answer)


def wait_for(condition: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_another_bundle_takes_over_and_a_damaged_one_does_not(tmp_path: Path) -> None:
    first, second = bundle(), bundle(seed=1)
    folder = tmp_path / "bundle"
    first.save(folder)
    with serving(folder) as server, ThreadPoolExecutor(4) as clients:
        second.save(folder, replace=True)
        found, done = [], False

        def ask() -> None:
            while not done:
                found.append(server.ask("/v1/rows", BODY)[:2])
                time.sleep(0.01)

        clients.submit(ask), clients.submit(ask)
        server.process.send_signal(signal.SIGHUP)
        assert server.until("ready")["version"] == second.fingerprint
        wait_for(lambda: found[-1][1]["version"] == second.fingerprint)
        done = True
    versions = [answer["version"] for status, answer in found if status == 200]
    assert len(versions) == len(found) > 2 and set(versions) == {first.fingerprint, second.fingerprint}
    assert versions == sorted(versions, key=(first.fingerprint, second.fingerprint).index)


def test_a_bundle_that_cannot_be_served_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    bundle().save(folder)
    with serving(folder) as server:
        before, pids = p_of(server), server.children()
        (folder / "weights.safetensors").write_bytes(b"")
        server.process.send_signal(signal.SIGHUP)
        assert "differs from its checksum" in server.until("failed")["error"]
        assert p_of(server) == before
        wait_for(lambda: server.children() == pids)


def test_a_scoring_process_that_is_killed_is_replaced(folder: Path) -> None:
    with serving(folder, "--processes", "2") as server:
        before, pids = p_of(server), server.children()
        assert before[0] == 200 and len(pids) == 2
        os.kill(pids[0], signal.SIGKILL)
        assert server.until("lost")["pid"] == pids[0]
        assert p_of(server) == before, "the other one answers"
        server.until("ready")
        assert p_of(server) == before
        wait_for(lambda: len(server.children()) == 2)
        for pid in server.children():
            os.kill(pid, signal.SIGKILL)
        server.until("lost")
        server.until("ready")
        assert p_of(server) == before


def test_scoring_ends_with_a_server_that_is_killed(folder: Path) -> None:
    with serving(folder) as server:
        (pid,) = server.children()
        server.process.kill()
        wait_for(lambda: is_gone(pid))


def test_a_server_that_is_stopped_ends_well(folder: Path) -> None:
    with serving(folder) as server:
        (pid,) = server.children()
        server.process.terminate()
        assert server.process.wait(20) == 0 and is_gone(pid)


def test_keys(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("one-key\n\n other \n")
    with serving(folder, "--api-keys", str(tmp_path / "keys")) as server:
        assert server.ask("/v2/health/live")[0] == server.ask("/v2/health/ready")[0] == 200
        for headers in ({}, {"authorization": "Bearer one-ke"}, {"x_api_key": ""}, {"authorization": "one-key2"}):
            status, answer, found = server.ask("/v1/rows", BODY, **headers)
            assert status == 401 and "no known API key" in answer["error"] and found["www-authenticate"] == "Bearer"
        assert p_of(server, authorization="Bearer one-key")[0] == p_of(server, x_api_key="other")[0] == 200


def test_requests_beyond_the_queue_are_refused_with_a_time(folder: Path) -> None:
    rows = {name: values * 3000 for name, values in ROWS.items()}
    with serving(folder, "--queue", "1") as server, ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda _: server.ask("/v1/rows", {"columns": rows}), range(8)))
        statuses = [status for status, _, _ in answers]
        assert set(statuses) == {200, 503}
        refused = next(each for each in answers if each[0] == 503)
        assert "requests wait already" in refused[1]["error"] and refused[2]["retry-after"] == "1"
        status, answer, _ = server.ask("/v1/rows", {"columns": {name: v * 4 for name, v in rows.items()}})
        assert status == 413 and "36,000 rows; send at most 20,000" in answer["error"]


def test_requests_that_wait_too_long_are_not_scored(folder: Path) -> None:
    rows = {name: values * 3000 for name, values in ROWS.items()}
    with serving(folder, "--deadline", "0.001") as server, ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda _: server.ask("/v1/rows", {"columns": rows}), range(8)))
        assert {status for status, _, _ in answers} <= {200, 504} and any(status == 504 for status, _, _ in answers)


def test_certificates_of_the_server_and_of_clients(folder: Path, tmp_path: Path) -> None:
    own, key = certificate(tmp_path, "server")
    client, client_key = certificate(tmp_path, "client")
    options = ("--certificate", str(own), "--key", str(key), "--client-ca", str(client))
    with serving(folder, *options) as server:
        address = str(server.log[0]["address"]) + "/v2/health/ready"
        assert address.startswith("https://")
        trusting = ssl.create_default_context(cafile=str(own))
        with pytest.raises(OSError):
            urllib.request.urlopen(address, context=trusting)
        trusting.load_cert_chain(client, client_key)
        with urllib.request.urlopen(address, context=trusting) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nowhere"], "nowhere is not a folder"),
        (["{bundle}", "--deltas", "{bundle}"], "is no delta"),
        (["{bundle}", "--precision", "float8"], "precision 'float8' is not known"),
        (["{bundle}", "--certificate", "a.pem"], "needs --certificate and --key"),
        (["{bundle}", "--certificate", "{bundle}/bundle.json", "--key", "{bundle}/bundle.json"], "PEM"),
        (["{bundle}", "--api-keys", "{empty}"], "has no API key"),
        (["{bundle}", "--host", "203.0.113.9"], "choose another --host or --port"),
    ],
)
def test_a_server_that_cannot_start_says_why(folder: Path, tmp_path: Path, options: list[str], message: str) -> None:
    (tmp_path / "empty").write_text("\n")
    filled = [each.format(bundle=folder, empty=tmp_path / "empty") for each in options]
    found = subprocess.run([COMMAND, "serve", "--port", "0", *filled], capture_output=True, text=True, timeout=60)
    assert found.returncode == 2 and message in found.stderr.splitlines()[-1], found.stderr
    assert "Traceback" not in found.stderr


def test_deltas_are_chosen_by_the_key_of_a_row(tmp_path: Path) -> None:
    from tests import tiny
    from tests.serving import adapted

    adapted.base().bundle.save(tmp_path / "bundle")
    (tmp_path / "deltas").mkdir()
    adapted.delta("1").save(tmp_path / "deltas" / "one.safetensors")
    rows = tiny.draw_log(20, 3).drop_columns(["click", "conversion", "weight"])
    with serving(tmp_path / "bundle", "--deltas", str(tmp_path / "deltas")) as server:
        status, answer, _ = server.ask("/v1/rows", {"columns": rows.to_pydict()})
    expected = load(tmp_path / "bundle").with_deltas(tmp_path / "deltas").predict(rows)
    assert status == 200 and answer["columns"]["p_click"] == expected["p_click"].to_pylist()
    assert expected["p_click"] != load(tmp_path / "bundle").predict(rows)["p_click"]


def test_the_front_loads_no_model() -> None:
    code = "import sys, funnelcast.server.run; print([m for m in ('torch', 'pandas', 'numba') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
