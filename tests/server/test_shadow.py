"""A shadow: a second bundle that scores what was answered, and costs no answer."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from funnelcast.data.encoder import Encoder
from funnelcast.data.numeric import Standard
from funnelcast.schema.dataset import Schema
from funnelcast.server.shadow import BYTES
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.predictor import load
from harness.calls import call
from tests import tiny
from tests.server.logged import ALL_ROWS, CANDIDATES, TENSORS, USER, ask_all, until
from tests.server.served import COMMAND, MODEL, ROWS, SCHEMA, Server, bundle, encoder, serving
from tests.server.test_figures import scraped
from tests.server.test_replay import ask_by_protocol
from tests.serving import adapted

pytestmark = pytest.mark.slow
OUTPUTS = ("p_click", "p_conversion", "p_conversion_given_click")
ALL = ("--shadow-share", "1")


def without_price(**more: Any) -> Bundle:
    """Of the same funnel, with other features, and parameters."""
    said, own = SCHEMA.model_dump(mode="json", exclude_unset=True), encoder()
    features = {name: feature for name, feature in said["features"].items() if name != "price"}
    schema = Schema.from_dict({**said, "features": {**features, **dict.fromkeys(more, "numeric")}})
    changed = Encoder(schema, own.vocabularies, {"age": own.numbers["age"], **more})
    return adapted.adaptable(changed, model=MODEL, seed=3)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("shadow") / "bundle"
    without_price(hour=Standard(mean=12, std=5)).save(made)
    return made


@pytest.fixture(scope="module")
def compared(folder: Path, other: Path) -> Iterator[Server]:
    with serving(folder, "--shadow", str(other), *ALL) as server:
        yield server


def shadow_of(server: Server, rows: int | None = None) -> dict[str, Any]:
    """What the server says of its shadow, when so many rows of the sample have come to an end."""
    found: dict[str, Any] = {}

    def is_done() -> bool:
        found.update(server.ask("/v1/shadow")[1])
        return rows is None or found["scored"] + found["dropped"] + found["failed"] == rows

    until(is_done)
    return found


def versions_of(found: dict[str, Any]) -> list[str]:
    return [found[name]["version"] for name in ("served", "shadow")]


def pid_of(server: Server) -> int:
    """The child of a low priority."""
    (pid,) = [pid for pid in server.children() if os.getpriority(os.PRIO_PROCESS, pid) == 19]
    return pid


def ask(server: Server, body: Any, **headers: str) -> dict[str, Any]:
    status, answer, _ = server.ask("/v1/rows", body, **headers)
    assert status == 200
    return answer


def test_the_same_bundle_does_not_differ(folder: Path) -> None:
    with serving(folder, "--shadow", str(folder), *ALL, "--grpc-port", "0", "--processes", "2") as server:
        before = server.ask("/v1/shadow")[1]
        assert before["scored"] == 0 and before["outputs"]["p_click"]["difference"] is None
        ask_all(server)
        ask_by_protocol(server)
        rows = ALL_ROWS + 2 * 3
        found, figures = shadow_of(server, rows), scraped(server)
        status, api = server.ask("/v1/status")[1], server.ask("/openapi.json")[1]
    version = load(folder).bundle.fingerprint
    assert found["served"] == found["shadow"] == {"bundle": str(folder), "version": version}
    assert found["ready"] and found["error"] is None and found["scored"] == rows and tuple(found["outputs"]) == OUTPUTS
    for name in OUTPUTS:
        own = found["outputs"][name]
        assert own["rows"] == rows and own["served_mean"] == own["shadow_mean"] > 0
        assert own["difference"] == own["largest"] == own["standard_error"] == 0
        assert own["logit_difference"] == {f"p{percent}": 0 for percent in (1, 10, 50, 90, 99)}
        assert figures[f"funnelcast_shadow_difference {name}"] == 0
    counts = {result: figures[f"funnelcast_shadow_rows_total {result}"] for result in ("scored", "dropped", "failed")}
    assert counts == {"scored": rows, "dropped": 0, "failed": 0}
    assert figures["funnelcast_shadow_restarts_total"] == 0 and figures["funnelcast_shadow_ready"] == 1
    assert status["shadow"] == found and "404" in api["paths"]["/v1/shadow"]["get"]["responses"]


def test_the_difference_is_that_of_predictions(compared: Server, folder: Path, other: Path) -> None:
    before = shadow_of(compared)
    hours: list[list[Any]] = [[1.0, 13.0, None], [23.0, 0.5, 7.0]]
    for hour in hours:
        ask(compared, {"columns": {**ROWS, "hour": hour}})
    ask(compared, {"columns": {**CANDIDATES, "hour": [3.0] * 4}, "shared": USER})
    found = shadow_of(compared, sum(before[name] for name in ("scored", "dropped", "failed")) + 10)
    served, shadow = load(folder), load(other)
    for name in OUTPUTS:
        first = [*[served.predict(ROWS)[name]] * 2, served.predict(CANDIDATES, USER)[name]]
        second = [shadow.predict({**ROWS, "hour": hour})[name] for hour in hours]
        second.append(shadow.predict({**CANDIDATES, "hour": [3.0] * 4}, USER)[name])
        p, q = np.concatenate(first), np.concatenate(second)
        own = found["outputs"][name]
        assert own["rows"] == 10 and own["served_mean"] == pytest.approx(p.mean())
        assert own["shadow_mean"] == pytest.approx(q.mean()) and own["difference"] == pytest.approx((q - p).mean())
        assert own["largest"] == np.abs(q - p).max() > 0
        errors = [np.sum(b - a) - (q - p).mean() * len(a) for a, b in zip(first, second, strict=True)]
        assert own["standard_error"] == pytest.approx(np.sqrt(np.sum(np.square(errors)) * 3 / 2) / 10)
        p, q = np.minimum(p, 1 - 2.0**-53), np.minimum(q, 1 - 2.0**-53)
        middle = np.quantile(np.log(q / (1 - q)) - np.log(p / (1 - p)), 0.5, method="inverted_cdf")
        assert own["logit_difference"]["p50"] == pytest.approx(middle, rel=0.011)
        assert scraped(compared)[f"funnelcast_shadow_difference {name}"] == own["difference"]


def test_rows_that_the_shadow_cannot_score_are_counted(compared: Server) -> None:
    before = shadow_of(compared)
    ask(compared, {"columns": ROWS})
    assert compared.ask("/v2/models/funnel/infer", {"inputs": TENSORS})[0] == 200
    assert compared.ask("/v1/rows", {"columns": {}})[0] == 400, "which no bundle is asked"
    found = shadow_of(compared, before["scored"] + before["failed"] + 5)
    assert found["failed"] == before["failed"] + 5 and found["scored"] == before["scored"]
    assert "columns: hour; add them" in found["error"]
    assert found["outputs"] == before["outputs"] and found["restarts"] == 0
    assert scraped(compared)["funnelcast_shadow_rows_total failed"] == found["failed"]


def test_a_share_of_the_requests_is_scored(folder: Path) -> None:
    with serving(folder, "--shadow", str(folder), "--shadow-share", "0.3") as server:
        for i in range(60):
            ask(server, {"columns": {name: values[:1] * (i + 1) for name, values in ROWS.items()}})
        random = Random(0)
        rows = sum(i + 1 for i in range(60) if random.random() < 0.3)
        found = shadow_of(server, rows)
    assert found["scored"] == found["outputs"]["p_click"]["rows"] == rows and found["share"] == 0.3


def test_a_shadow_that_is_killed_is_replaced_and_no_request_fails(folder: Path) -> None:
    with serving(folder, "--shadow", str(folder), *ALL) as server, ThreadPoolExecutor(2) as clients:
        pid, statuses, done = pid_of(server), list[int](), False

        def flow() -> None:
            while not done:
                statuses.append(server.ask("/v1/rows", {"columns": ROWS})[0])
                time.sleep(0.005)

        try:
            os.kill(pid, signal.SIGSTOP)
            flows = [clients.submit(flow) for _ in range(2)]
            until(lambda: len(statuses) > 20)
            os.kill(pid, signal.SIGKILL)
            assert server.until("shadow lost")["pid"] == pid
            server.until("shadow ready")
            before = shadow_of(server)
            until(lambda: shadow_of(server)["scored"] > before["scored"])
        finally:
            done = True
        for each in flows:
            each.result()
        found = shadow_of(server, 3 * len(statuses))
        assert set(statuses) == {200} and server.ask("/v1/status")[1]["failed"] == 0
        assert found["restarts"] == 1 and found["failed"] == 3, "the one request that it had"
        assert found["dropped"] >= 3 * 19 and "ended" in found["error"]
        assert found["outputs"]["p_click"]["rows"] == found["scored"], "what it had scored before is not lost"
        assert scraped(server)["funnelcast_shadow_restarts_total"] == 1 and pid_of(server) != pid


def test_a_shadow_that_is_slow_costs_no_answer(folder: Path) -> None:
    size, requests = 15 << 20, 7
    body = {"columns": {**ROWS, "kept": ["x" * size, "", ""]}}
    with serving(folder, "--shadow", str(folder), *ALL) as server:
        pid = pid_of(server)
        os.kill(pid, signal.SIGSTOP)
        for _ in range(requests):
            ask(server, body)
        held = BYTES // size
        until(lambda: scraped(server)["funnelcast_shadow_rows_total dropped"] == 3 * (requests - held))
        assert shadow_of(server)["scored"] == 0
        os.kill(pid, signal.SIGCONT)
        found = shadow_of(server, 3 * requests)
        assert found["scored"] == 3 * held and found["failed"] == found["restarts"] == 0
        ask(server, body)
        assert shadow_of(server, 3 * (requests + 1))["scored"] == 3 * (held + 1), "there is memory again"
        os.kill(pid, signal.SIGSTOP)
        ask(server, {"columns": ROWS})
        server.process.terminate()
        assert server.process.wait(20) == 0, "it is not waited for"


def test_figures_are_of_the_bundles_that_are_named(folder: Path, tmp_path: Path) -> None:
    served, shadow = tmp_path / "served", tmp_path / "shadow"
    bundle().save(served)
    bundle().save(shadow)
    with serving(served, "--shadow", str(shadow), *ALL, "--grpc-port", "0") as server:
        ask(server, {"columns": ROWS})
        assert shadow_of(server, 3)["outputs"]["p_click"]["difference"] == 0
        bundle(seed=1).save(served, replace=True)
        without_price().save(shadow, replace=True)
        expected, requests = [load(each).bundle.fingerprint for each in (served, shadow)], 1
        server.process.send_signal(signal.SIGHUP)

        def both_are_new() -> bool:
            nonlocal requests
            ask(server, {"columns": ROWS})
            requests += 1
            return versions_of(shadow_of(server, 3 * requests)) == expected

        until(both_are_new)
        ask_by_protocol(server)
        assert server.ask("/v2/models/funnel/infer", {"inputs": TENSORS})[0] == 200
        found = shadow_of(server, 3 * requests + 8)
    assert versions_of(found) == expected
    assert found["failed"] == 0 and found["scored"] > found["outputs"]["p_click"]["rows"] >= 8
    assert found["outputs"]["p_conversion"]["difference"] != 0 and found["restarts"] == 0


def test_deltas_are_those_of_the_served_bundle(tmp_path: Path) -> None:
    adapted.base().bundle.save(tmp_path / "bundle")
    adapted.delta("1").save(tmp_path / "one.safetensors")
    rows = tiny.draw_log(20, 3).drop_columns(["click", "conversion", "weight"])
    options = ("--deltas", str(tmp_path / "one.safetensors"), "--shadow", str(tmp_path / "bundle"), *ALL)
    with serving(tmp_path / "bundle", *options) as server:
        ask(server, {"columns": rows.to_pydict()})
        found = shadow_of(server, 20)["outputs"]["p_click"]
    plain = load(tmp_path / "bundle")
    with_delta, without = (
        each.predict(rows)["p_click"].to_numpy() for each in (plain.with_deltas(tmp_path / "one.safetensors"), plain)
    )
    assert found["difference"] == pytest.approx((without - with_delta).mean()) and found["largest"] > 0


def test_keys_and_a_server_without_a_shadow(folder: Path, server: Server, tmp_path: Path) -> None:
    status, answer, _ = server.ask("/v1/shadow")
    assert status == 404 and "start the server with --shadow BUNDLE" in answer["error"]
    assert server.ask("/v1/status")[1]["shadow"] is None
    assert not [name for name in scraped(server) if "shadow" in name]
    (tmp_path / "keys").write_text("one-key\n")
    with serving(folder, "--shadow", str(folder), "--api-keys", str(tmp_path / "keys")) as guarded:
        assert guarded.ask("/v1/shadow")[0] == 401
        assert guarded.ask("/v1/shadow", x_api_key="one-key")[1]["share"] == 0.1


@pytest.mark.parametrize("share", ["0", "-0.1", "1.5", "nan"])
def test_a_share_that_is_none_is_an_error(folder: Path, share: str) -> None:
    answer = call("serve", folder, "--shadow", folder, "--shadow-share", share)
    assert answer.code == 2 and "give a share of requests above 0 and up to 1" in answer.err and not answer.trace


def test_a_shadow_that_cannot_be_loaded_or_has_other_steps_is_an_error(folder: Path, tmp_path: Path) -> None:
    schema = Schema.from_dict(
        {**SCHEMA.model_dump(mode="json", exclude_unset=True), "funnel": "click; buy after click"}
    )
    adapted.adaptable(replace(encoder(), schema=schema), model=MODEL).save(tmp_path / "bundle")
    for shadow, message in (
        ("nowhere", "the shadow cannot be loaded: nowhere is not a folder"),
        (tmp_path / "bundle", "a bundle with the same funnel"),
    ):
        command = [COMMAND, "serve", str(folder), "--port", "0", "--shadow", str(shadow)]
        found = subprocess.run(command, capture_output=True, text=True, timeout=60)
        last = found.stderr.splitlines()[-1]
        assert found.returncode == 2 and message in last, found.stderr
        assert '"ready"' not in found.stderr and "Traceback" not in found.stderr
