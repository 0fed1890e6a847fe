"""What is said of a model next to a baseline."""

import math
from typing import Any

import numpy as np
import pytest

from funnelcast.data.columns import Columns
from funnelcast.evaluation.auc import Interval, auc
from funnelcast.evaluation.funnel import measure_funnel
from funnelcast.evaluation.metrics import log_loss
from funnelcast.experiments.baselines.compare import best_on_dev, compared, says
from funnelcast.schema.funnel import Funnel

FUNNEL = Funnel.parse("click; conversion after click")


def draw(rows: int = 4000) -> tuple[Columns, dict[str, Any]]:
    """Rows with weights, and reach of a good model, a poorer one and a constant."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((rows, 2)) - 1
    given = 1 / (1 + np.exp(-logits))
    reached = rng.random((rows, 2)) < given
    labels = np.stack([reached[:, 0], reached.all(1)], 1).astype(np.uint8)
    labels[:50, 1] = 255
    columns = Columns(np.zeros((rows, 0), np.int32), np.zeros((rows, 0), np.float32), {}, labels)
    weight = rng.integers(1, 4, rows).astype(np.float32)
    noisy = 1 / (1 + np.exp(-logits - rng.standard_normal((rows, 2))))
    models = {"good": given, "poor": noisy, "constant": np.full((rows, 2), 0.3)}
    return Columns(columns.ids, columns.numeric, {}, labels, weight), {n: reach(p) for n, p in models.items()}


def reach(given: Any) -> Any:
    p = np.cumprod(given, 1)
    return np.log(p), np.log1p(-p)


def test_a_model_is_held_against_the_best_by_dev_on_the_rows_of_each_output() -> None:
    rows, models = draw()
    assert rows.labels is not None and rows.weight is not None
    baselines = {name: models[name] for name in ("constant", "poor")}
    metrics = {
        name: measure_funnel(FUNNEL, rows.labels, own[0], own[1], rows.weight) for name, own in baselines.items()
    }
    good = compared(FUNNEL, rows, models["good"], baselines, metrics, metrics)
    for name, found in good.items():
        assert found["best"] == "poor" and found["says"] == [] and list(found["figures"]) == ["constant", "poor"]
        assert found["auc_difference"]["low"] > 0 > found["log_loss_difference"]["high"], name
    space = rows.labels[:, 0] == 1
    space[:50] = False
    y, w = rows.labels[space, 1], rows.weight[space]
    p, other_p = (own[0][space, 1] - own[0][space, 0] for own in (models["good"], models["poor"]))
    q, other_q = np.log1p(-np.exp(p)), np.log1p(-np.exp(other_p))
    found = good["conversion_given_click"]
    assert found["auc_difference"]["estimate"] == pytest.approx(auc(y, p, w) - auc(y, other_p, w))
    expected = log_loss(y, p, q, w) - log_loss(y, other_p, other_q, w)
    assert found["log_loss_difference"]["estimate"] == pytest.approx(expected)


def test_a_model_below_a_baseline_is_told_so_with_the_interval() -> None:
    rows, models = draw()
    assert rows.labels is not None
    log_p, log_q = models["good"]
    metrics = {"good": measure_funnel(FUNNEL, rows.labels, log_p, log_q, rows.weight)}
    found = compared(FUNNEL, rows, models["poor"], {"good": models["good"]}, metrics, metrics)["click"]
    low, high = found["auc_difference"]["low"], found["auc_difference"]["high"]
    assert high < 0 and len(found["says"]) == 2
    assert f"AUC is below that of good: −.{round(-found['auc_difference']['estimate'] * 1e4):04d}" in found["says"][0]
    assert f"[−.{round(-low * 1e4):04d}, −.{round(-high * 1e4):04d}]" in found["says"][0]
    assert "log-loss is worse than that of good: +." in found["says"][1]


def test_a_model_that_is_level_is_not_shown_to_be_above() -> None:
    auc_level, loss_level = Interval(0.0003, -0.001, 0.0016, 0.0006), Interval(-0.00001, -0.0001, 0.0001, 0.0001)
    assert list(says(auc_level, loss_level, "best column")) == [
        "AUC is not shown to be above that of best column: +.0003 [−.0010, +.0016]",
        "log-loss is not shown to be better than that of best column: −.00001 [−.00010, +.00010]",
    ]
    none = Interval(-0.2, math.nan, math.nan, math.nan, "too few positives")
    assert not list(says(none, none, "best column"))


def test_the_best_of_rows_without_an_auc_is_that_of_the_least_log_loss() -> None:
    labels = np.zeros((20, 2), np.uint8)
    near, far = (measure_funnel(FUNNEL, labels, *reach(np.full((20, 2), p))) for p in (0.01, 0.5))
    assert best_on_dev({"far": far, "near": near}, "click") == "near"
    assert best_on_dev({"far": far, "near": near}, "conversion_given_click") == "far"  # no rows: the first
