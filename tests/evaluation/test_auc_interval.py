"""Intervals of an AUC and of a paired difference, against DeLong's covariance from all pairs."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kurtosis
from scipy.stats import t as student

from funnelcast.evaluation.auc import auc_difference, auc_interval

Array = NDArray[Any]


def kernel(y: Array, s: Array) -> Array:
    """(m, n) 1 where the positive outscores the negative, half where they tie."""
    wins = s[y == 1][:, None] > s[y == 0][None, :]
    losses: Array = s[y == 1][:, None] < s[y == 0][None, :]
    result: Array = 0.5 + 0.5 * wins - 0.5 * losses
    return result


def slow_auc(y: Array, s: Array, w: Array | None = None) -> float:
    w = np.ones(len(y)) if w is None else w
    pairs = w[y == 1][:, None] * w[y == 0][None, :]
    return float((pairs * kernel(y, s)).sum() / pairs.sum())


def slow_covariance(y: Array, *scores: Array) -> Array:
    """DeLong et al. (1988): S10 / m + S01 / n, from the full kernels."""
    kernels = [kernel(y, s) for s in scores]
    tens, ones = np.array([k.mean(1) for k in kernels]), np.array([k.mean(0) for k in kernels])
    total: Array = np.atleast_2d(np.cov(tens)) / tens.shape[1] + np.atleast_2d(np.cov(ones)) / ones.shape[1]
    return total


def slow_ends(y: Array, s: Array) -> list[float]:
    """Student's t on the logit scale, each class's variance with 2 m / (kurtosis - 1) degrees of freedom."""
    k, estimate = kernel(y, s), slow_auc(y, s)
    parts, freedoms = [], []
    for components in (k.mean(1), k.mean(0)):
        parts.append(components.var(ddof=1) / len(components))
        tails = 2 * len(components) / (kurtosis(components, fisher=False) - 1)
        freedoms.append(min(tails, len(components) - 1))
    freedom = sum(parts) ** 2 / sum(part**2 / f for part, f in zip(parts, freedoms, strict=True))
    half = student.ppf(0.975, freedom) * sum(parts) ** 0.5 / (estimate * (1 - estimate))
    centre = math.log(estimate / (1 - estimate))
    return [1 / (1 + math.exp(-centre - side * half)) for side in (-1, 1)]


def draw(seed: int, m: int, n: int, shift: float = 1.0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.r_[np.ones(m, np.uint8), np.zeros(n, np.uint8)])
    return y, rng.normal(size=m + n) + shift * y


@pytest.mark.parametrize("decimals", [0, 1, 8])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_all_pairs(decimals: int, dtype: type) -> None:
    y, s = draw(1, 70, 180)
    s = s.round(decimals).astype(dtype)
    got = auc_interval(y, s)
    assert got.estimate == pytest.approx(slow_auc(y, s), abs=1e-12)
    assert got.std_error**2 == pytest.approx(slow_covariance(y, s)[0, 0], rel=1e-10)
    assert (got.low, got.high) == pytest.approx(slow_ends(y, s), rel=1e-9)


def test_equal_weights_change_nothing() -> None:
    y, s = draw(5, 20, 90)
    assert auc_interval(y, s, np.full(len(y), 0.3)) == auc_interval(y, s)


def test_weighted_variance_is_the_projection() -> None:
    y, s = draw(6, 60, 90)
    w = np.random.default_rng(7).uniform(0.2, 3, len(y))
    total, k = 0.0, kernel(y, s)
    for own, other, values in ((w[y == 1], w[y == 0], k), (w[y == 0], w[y == 1], k.T)):
        component = values @ other / other.sum()
        size = own.sum() ** 2 / (own**2).sum()
        total += (own**2 * (component - slow_auc(y, s, w)) ** 2).sum() / own.sum() ** 2 * size / (size - 1)
    assert auc_interval(y, s, w).std_error ** 2 == pytest.approx(total, rel=1e-10)


def test_rows_of_weight_zero_do_not_count() -> None:
    y, s = draw(8, 60, 60)
    extra = np.r_[y, np.ones(5, np.uint8)], np.r_[s, np.full(5, -9.0)], np.r_[np.ones(120), np.zeros(5)]
    assert auc_interval(*extra) == pytest.approx(auc_interval(y, s))


@pytest.mark.parametrize(("m", "n"), [(15, 400), (400, 15)])
def test_few_rows_are_noted(m: int, n: int) -> None:
    y, s = draw(9, m, n, 2.5)
    estimate, low, high, _, note = auc_interval(y, s)
    assert note.startswith("few positives" if m < n else "few negatives")
    assert [low, high] == pytest.approx(slow_ends(y, s), rel=1e-9) and high - estimate < estimate - low


def test_too_few_rows_get_no_interval() -> None:
    for m, n, note in ((9, 50, "too few positives"), (50, 9, "too few negatives"), (1, 50, "too few positives")):
        got = auc_interval(*draw(10, m, n))
        assert got.note == note and math.isnan(got.low) and math.isnan(got.high)
        assert got.estimate == pytest.approx(slow_auc(*draw(10, m, n)))


@pytest.mark.parametrize("m", [12, 80])
def test_perfect_separation_keeps_an_honest_bound(m: int) -> None:
    y = np.r_[np.ones(m, np.uint8), np.zeros(200, np.uint8)]
    best, worst = auc_interval(y, y.astype(float)), auc_interval(y, -y.astype(float))
    assert best[:4] == pytest.approx((1, 0.025 ** (1 / m), 1, 0), abs=1e-15)
    assert worst[:4] == pytest.approx((0, 0, 1 - 0.025 ** (1 / m), 0), abs=1e-15)


def test_nearly_perfect_logit_stays_inside() -> None:
    y = np.r_[np.ones(12, np.uint8), np.zeros(100_000, np.uint8)]
    s = y + 0.0
    s[-1] = 1.0
    got = auc_interval(y, s)
    assert 0 < got.low < got.estimate < got.high <= 1


@pytest.mark.slow
@pytest.mark.parametrize(("m", "n", "shift"), [(60, 120, 1.0), (15, 500, 1.0), (20, 200, 2.33), (50, 200, 2.33)])
def test_interval_covers(m: int, n: int, shift: float) -> None:
    truth = math.erf(shift / 2) / 2 + 0.5
    intervals = [auc_interval(*draw(seed, m, n, shift)) for seed in range(800)]
    assert 0.93 < np.mean([i.low <= truth <= i.high for i in intervals]) < 0.975


def test_paired_difference_equals_slow_covariance() -> None:
    y, a = draw(11, 60, 150)
    b = (a + np.random.default_rng(12).normal(size=len(y))).round(1)
    got, cov = auc_difference(y, a, b), slow_covariance(y, a, b)
    assert got.estimate == pytest.approx(slow_auc(y, a) - slow_auc(y, b), abs=1e-12)
    assert got.std_error**2 == pytest.approx(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1], rel=1e-10)
    assert got.high - got.low == pytest.approx(2 * 1.959963985 * got.std_error, rel=1e-7)
    few = np.flatnonzero(y == 0).tolist() + np.flatnonzero(y)[:12].tolist()
    wide = auc_difference(y[few], a[few], b[few])
    assert wide.note.startswith("few positives") and wide.high - wide.low > 2 * 1.97 * wide.std_error
    back = auc_difference(y, b, a, np.full(len(y), 2.0))
    assert (back.estimate, back.low, back.high) == pytest.approx((-got.estimate, -got.high, -got.low))


def test_paired_difference_with_itself_is_zero() -> None:
    y, s = draw(13, 60, 60)
    assert auc_difference(y, s, np.exp(s)) == (0, 0, 0, 0, "no spread: all rows differ alike")
    assert auc_difference(y[:12], s[:12], -s[:12]).note.startswith("too few")


def test_thresholds_are_where_they_are_said() -> None:
    notes = [auc_interval(*draw(15, m, 80)).note for m in (9, 10, 49, 50)]
    few = "few positives: the interval is rough"
    assert notes == ["too few positives", few, few, ""]
