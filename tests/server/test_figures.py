"""What a server says of itself: for Prometheus, and as figures of the rows that it scored."""

from __future__ import annotations

import math
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from funnelcast.evaluation.distribution import distribution
from funnelcast.server.status import stability_index
from funnelcast.serving.predictor import Predictor, load
from tests.server.served import ROWS, Server, bundle, serving

pytestmark = pytest.mark.slow
TRAINED = {name: values * 40 for name, values in ROWS.items()}


def scraped(server: Server) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{server.url}/metrics") as answer:
        text = answer.read().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for name, labels, value, *_ in family.samples:
            found[" ".join([name, *(str(v) for k, v in sorted(labels.items()) if k != "version")])] = value
    return found


def test_figures_are_those_of_the_rows(tmp_path: Path) -> None:
    plain = bundle()
    p = Predictor(plain).predict(TRAINED)
    outputs = {name.removeprefix("p_"): {"predicted": distribution(values)} for name, values in p.items()}
    replace(plain, metrics={"dev": outputs}).save(tmp_path / "bundle")
    with serving(tmp_path / "bundle", "--processes", "2") as server:
        before = server.ask("/v1/status")[1]
        assert before["rows"] == 0 and before["outputs"]["p_click"]["psi"] is None
        for _ in range(4):
            assert server.ask("/v1/rows", {"columns": TRAINED})[0] == 200
        shared = {name: values[1] for name, values in ROWS.items() if name != "item"}
        assert server.ask("/v1/rows", {"columns": {"item": [99] * 60}, "shared": shared})[0] == 200
        assert server.ask("/v1/rows", {})[0] == 400
        status, found = server.ask("/v1/status")[1], scraped(server)
    rows = 4 * 120 + 60
    assert status["rows"] == status["total"] == rows == found["funnelcast_rows_total"]
    assert status["missing"]["user"] == 4 * 40 / rows and status["missing"]["price"] == (4 * 40 + 60) / rows
    assert status["unknown"] == {"user": 0, "item": (4 * 40 + 60) / rows}
    other = Predictor(plain).predict({"item": [99] * 60}, shared=shared)
    mean = float(np.concatenate([*[p["p_click"]] * 4, other["p_click"]]).mean())
    assert status["outputs"]["p_click"]["mean"] == pytest.approx(mean)
    assert status["outputs"]["p_click"]["expected_mean"] == pytest.approx(float(p["p_click"].mean()))
    assert 0 < status["outputs"]["p_click"]["psi"] == found["funnelcast_predicted_psi p_click"]
    assert found["funnelcast_unknown_share item"] == status["unknown"]["item"]
    assert found["funnelcast_requests_total score 200"] == 5 and found["funnelcast_requests_total score 400"] == 1
    assert found["funnelcast_request_seconds_count"] == 6 and found["funnelcast_ready"] == 1
    assert found["funnelcast_model_info shared_bottom funnel"] == 1
    assert 0 < status["latency_ms"]["p50"] <= status["latency_ms"]["p99"]


def test_the_stability_index_by_hand() -> None:
    assert stability_index([0.5, 0.5], [0, 0]) is None
    a = [(10 + 0.5) / 41, (30 + 0.5) / 41]
    by_hand = sum((x - e) * math.log(x / e) for x, e in zip(a, [0.5, 0.5], strict=True))
    assert stability_index([0.5, 0.5], [10, 30]) == pytest.approx(by_hand)
    p = np.random.default_rng(0).random(10_000) ** 3
    same = distribution(p)
    assert sum(same["shares"]) == pytest.approx(1) and len(same["edges"]) == 9
    assert stability_index(same["shares"], [1000] * 10) == pytest.approx(0, abs=1e-6)
    assert distribution(np.full(5, 0.3)) == {"mean": 0.3, "edges": [0.3], "shares": [0.0, 1.0]}


def test_a_server_without_figures_of_training_has_no_shift(server: Server, folder: Path) -> None:
    assert server.ask("/v1/rows", {"columns": ROWS})[0] == 200
    found = server.ask("/v1/status")[1]["outputs"]["p_click"]
    assert found["psi"] is None and found["expected_mean"] is None and found["mean"] is not None
    assert load(folder).bundle.metrics == {"dev": {}}
