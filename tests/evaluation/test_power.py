"""What a test set can show, against simulated comparisons and the bivariate normal distribution."""

import math

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm, t

from funnelcast.errors import ComparisonError
from funnelcast.evaluation.auc import Interval, auc_difference
from funnelcast.evaluation.power import planned_error, power_note, smallest_difference, smallest_of
from funnelcast.evaluation.resampled import resampled_interval


def test_the_usual_2_8_errors() -> None:
    assert smallest_difference(0.01) == pytest.approx(0.01 * (1.959964 + 0.841621), rel=1e-6)
    assert smallest_difference(0.01, level=0.9, power=0.95) == pytest.approx(0.01 * 2 * 1.644854, rel=1e-6)
    assert math.isnan(smallest_difference(math.nan)) and smallest_difference(0) == 0


@pytest.mark.parametrize("freedom", [2, 4, 30])
def test_power_with_few_degrees_of_freedom_by_simulation(freedom: int) -> None:
    rng = np.random.default_rng(freedom)
    error = np.sqrt(rng.chisquare(freedom, 400_000) / freedom)
    estimate = smallest_difference(1.0, freedom) + rng.normal(size=400_000)
    assert np.mean(estimate > t.ppf(0.975, freedom) * error) == pytest.approx(0.8, abs=0.003)


def test_of_an_interval_it_has_its_degrees_of_freedom() -> None:
    differences = np.array([0.01, 0.03, 0.02, 0.05, 0.02])
    found = resampled_interval(differences, 0.2)
    assert smallest_of(found) == pytest.approx(smallest_difference(found.std_error, 4), rel=1e-5)
    assert smallest_of(found) == pytest.approx(3.76106 * found.std_error, rel=1e-5)
    cut = Interval(0.99, 0.99 - 1.959964 * 0.02, 1.0, 0.02)
    assert smallest_of(cut) == pytest.approx(smallest_difference(0.02), rel=1e-5)


def test_of_no_interval_nothing_is_known() -> None:
    assert math.isnan(smallest_of(Interval(0.1, math.nan, math.nan, 0.2))) and smallest_of(Interval(0, 0, 0, 0)) == 0


@pytest.mark.parametrize("auc", [0.5, 0.7, 0.95])
@pytest.mark.parametrize("correlation", [-0.5, 0.0, 0.6, 0.95])
def test_planned_error_by_the_bivariate_normal(auc: float, correlation: float) -> None:
    """Components Φ(x) of positives: var = P(z1 < x, z2 < x) - auc², of two models' likewise, at h = Φ⁻¹(auc)."""
    h = np.full(2, norm.ppf(auc))
    both = [multivariate_normal.cdf(h, cov=[[1, r / 2], [r / 2, 1]]) for r in (1, correlation)]
    assert planned_error(40, 300, auc, correlation) ** 2 == pytest.approx(
        2 * (both[0] - both[1]) * (1 / 40 + 1 / 300), rel=1e-4
    )


@pytest.mark.parametrize(("shift", "correlation"), [(0.8, 0.9), (2.0, 0.5)])
def test_planned_error_is_what_delong_finds(shift: float, correlation: float) -> None:
    rng = np.random.default_rng(3)
    y = np.repeat([1, 0], [8_000, 20_000]).astype(np.uint8)
    a = rng.normal(size=len(y))
    b = correlation * a + (1 - correlation**2) ** 0.5 * rng.normal(size=len(y))
    found = auc_difference(y, a + shift * y, np.exp(b + shift * y))
    assert planned_error(8_000, 20_000, norm.cdf(shift / 2**0.5), correlation) == pytest.approx(
        found.std_error, rel=0.03
    )


def test_the_same_scores_differ_by_nothing() -> None:
    assert planned_error(10, 10, 0.8, 1.0) == 0
    assert planned_error(40, 400, 0.7, 0.5) == pytest.approx(2 * planned_error(160, 1600, 0.7, 0.5))


@pytest.mark.parametrize("wrong", [(0, 9, 0.7, 0.5), (9, 0, 0.7, 0.5), (9, 9, 1.0, 0.5), (9, 9, 0.7, 1.5)])
def test_what_cannot_be_planned_is_refused(wrong: tuple[int, int, float, float]) -> None:
    with pytest.raises(ComparisonError, match=r"positives.*AUC in \(0, 1\)"):
        planned_error(*wrong)


@pytest.mark.parametrize(
    ("std_error", "positives", "text"),
    [
        (0.00075, 1234, "differences under .0021 are not to be told apart on these 1,234 positives"),
        (0.04, 31, "differences under .1121 are not to be told apart on these 31 positives"),
        (2e-6, 9, "differences under .0000056 are not to be told apart on these 9 positives"),
        (math.nan, 1, "without a standard error it is not known what these 1 positives can tell apart"),
        (0.0, 12, "without a standard error it is not known what these 12 positives can tell apart"),
    ],
)
def test_the_note(std_error: float, positives: int, text: str) -> None:
    assert power_note(std_error, positives) == text
