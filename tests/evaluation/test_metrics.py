"""Log-loss, normalised entropy and calibration by hand and against plain loops."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from funnelcast.evaluation.metrics import (
    expected_calibration_error,
    log_loss,
    measure,
    normalised_entropy,
    observed_over_predicted,
)

Array = NDArray[Any]


def draw(seed: int, n: int = 300) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.05, 0.9, n).round(2)
    return (rng.uniform(size=n) < p).astype(np.uint8), p, rng.integers(0, 4, n).astype(float)


def slow_log_loss(y: Array, p: Array, w: Array) -> float:
    losses = [-k * (math.log(q) if label else math.log(1 - q)) for label, q, k in zip(y, p, w, strict=True)]
    return math.fsum(losses) / math.fsum(w)


def slow_calibration_error(y: Array, p: Array, w: Array, bins: int) -> float:
    sums: dict[int, list[float]] = {}
    for value in sorted(set(p)):
        here = p == value
        rank = (w[p < value].sum() + w[here].sum() / 2) / w.sum()
        one = sums.setdefault(min(int(rank * bins), bins - 1), [0.0, 0.0])
        one[0] += float((w * y)[here].sum())
        one[1] += float((w * p)[here].sum())
    return sum(abs(observed - predicted) for observed, predicted in sums.values()) / float(w.sum())


def test_log_loss_by_hand() -> None:
    y, p = np.array([1, 0, 0], np.uint8), np.array([0.5, 0.2, 0.1])
    assert log_loss(y, np.log(p), np.log1p(-p)) == pytest.approx(-math.log(0.5 * 0.8 * 0.9) / 3, abs=1e-15)


@pytest.mark.parametrize("seed", range(3))
def test_equals_plain_loops(seed: int) -> None:
    y, p, w = draw(seed)
    args = y, np.log(p), np.log1p(-p), w
    rate = float(np.average(y, weights=w))
    base = slow_log_loss(y, np.full(len(y), rate), w)
    assert log_loss(*args) == pytest.approx(slow_log_loss(y, p, w), abs=1e-10)
    assert normalised_entropy(*args) == pytest.approx(slow_log_loss(y, p, w) / base, abs=1e-10)
    assert observed_over_predicted(y, p, w) == pytest.approx((w * y).sum() / (w * p).sum(), abs=1e-10)
    for bins in (1, 7, 20):
        got = expected_calibration_error(y, p, w, bins)
        assert got == pytest.approx(slow_calibration_error(y, p, w, bins), abs=1e-10)


def test_extreme_logs_stay_finite() -> None:
    y = np.array([1, 0], np.uint8)
    assert log_loss(y, np.array([-1e4, 0.0], np.float32), np.array([0.0, -1e4], np.float32)) == 1e4


def test_the_mean_rate_has_a_normalised_entropy_of_one() -> None:
    y = np.array([1, 0, 0, 0], np.uint8)
    p = np.full(4, 0.25)
    assert normalised_entropy(y, np.log(p), np.log1p(-p)) == pytest.approx(1, abs=1e-15)
    assert math.isnan(normalised_entropy(np.ones(4, np.uint8), np.log(p), np.log1p(-p)))


def test_calibration_by_hand() -> None:
    y, p = np.array([0, 1, 1, 1], np.uint8), np.array([0.1, 0.3, 0.6, 0.8])
    assert expected_calibration_error(y, p, bins=2) == pytest.approx((abs(1 - 0.4) + abs(2 - 1.4)) / 4)
    assert expected_calibration_error(y, p, bins=1) == pytest.approx(abs(3 - 1.8) / 4)
    assert observed_over_predicted(y, p) == pytest.approx(3 / 1.8)


def test_bins_have_equal_mass() -> None:
    p = np.linspace(0, 1, 1000) ** 6
    y = (np.arange(1000) % 100 < 50).astype(np.uint8)
    gaps = [abs(float((y - p)[k : k + 50].sum())) for k in range(0, 1000, 50)]
    assert expected_calibration_error(y, p) == pytest.approx(sum(gaps) / 1000, abs=1e-12)


def test_ties_are_never_parted() -> None:
    y = np.r_[np.ones(30, np.uint8), np.zeros(70, np.uint8)]
    assert expected_calibration_error(y, np.full(100, 0.3)) == pytest.approx(0, abs=1e-12)
    assert expected_calibration_error(y, np.full(100, 0.5)) == pytest.approx(0.2, abs=1e-12)


def test_measure_puts_all_together() -> None:
    y, p, w = draw(5)
    got = measure(y, np.log(p), np.log1p(-p), w)
    assert (got.rows, got.positives) == (300, int(y.sum()))
    assert got.log_loss == log_loss(y, np.log(p), np.log1p(-p), w)
    assert got.calibration_error == pytest.approx(expected_calibration_error(y, p, w), abs=1e-12)
    assert got.observed_over_predicted == pytest.approx(observed_over_predicted(y, p, w))
    assert got.normalised_entropy == normalised_entropy(y, np.log(p), np.log1p(-p), w)
    assert got.auc.low < got.auc.estimate < got.auc.high


@pytest.mark.parametrize("weights", [None, np.zeros(0)])
def test_no_rows_are_legal(weights: Array | None) -> None:
    empty = np.zeros(0)
    got = measure(empty.astype(np.uint8), empty, empty, weights)
    nothing = dict.fromkeys(("log_loss", "normalised_entropy", "calibration_error", "observed_over_predicted"))
    no_auc = {**dict.fromkeys(("estimate", "low", "high", "std_error")), "note": "no rows"}
    assert got.as_dict() == {"rows": 0, "positives": 0, "auc": no_auc, **nothing}
    assert math.isnan(got.log_loss) and math.isnan(got.auc.estimate)


def test_as_dict_is_json() -> None:
    y, p, _ = draw(6)
    values = measure(y, np.log(p), np.log1p(-p)).as_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    one_class = measure(y * 0, np.log(p), np.log1p(-p)).as_dict()
    assert one_class["normalised_entropy"] is None and "one class" in json.dumps(one_class, allow_nan=False)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9), st.integers(1, 3)), min_size=1, max_size=30))
def test_a_weight_is_a_repeated_row(rows: list[tuple[bool, int, int]]) -> None:
    y, tenths, w = (np.array(column) for column in zip(*rows, strict=True))
    p, repeats = tenths / 10, np.repeat(np.arange(len(y)), w)
    weighted = log_loss(y, np.log(p), np.log1p(-p), w), expected_calibration_error(y, p, w)
    repeated = (
        log_loss(y[repeats], np.log(p)[repeats], np.log1p(-p)[repeats]),
        expected_calibration_error(y[repeats], p[repeats]),
    )
    assert weighted == pytest.approx(repeated, abs=1e-12)
