"""p values against scipy.stats, Holm's correction by its definition and by what it promises."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm, t, ttest_rel

from funnelcast.evaluation.auc import Interval, auc_difference
from funnelcast.evaluation.seeds import over_seeds
from funnelcast.evaluation.significance import holm, p_value

NAN = math.nan


def slow_holm(p: list[float]) -> list[float]:
    """Of each, the greatest over the smaller ones of how often they count times p."""
    m = len(p)
    return [min(1.0, max(sum(r >= q for r in p) * q for q in p if q <= own)) if m else NAN for own in p]


@pytest.mark.parametrize("seeds", [2, 3, 5, 40])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_p_value_is_that_of_the_paired_t_test(seeds: int, level: float) -> None:
    a, b = np.random.default_rng(seeds).normal(0.7, 0.01, (2, seeds))
    assert p_value(over_seeds(a, b, level), level) == pytest.approx(ttest_rel(a, b).pvalue, rel=1e-6)


@pytest.mark.parametrize("positives", [20, 300])
def test_at_level_one_minus_p_the_interval_ends_at_zero(positives: int) -> None:
    rng = np.random.default_rng(positives)
    y = np.repeat([1, 0], [positives, 600]).astype(np.uint8)
    a, b = rng.normal(size=(2, len(y))) + y
    found = auc_difference(y, a, b)
    at = auc_difference(y, a, b, level=1 - p_value(found))
    assert min(abs(at.low), abs(at.high)) < 1e-9
    if positives == 300:
        assert p_value(found) == pytest.approx(2 * norm.sf(abs(found.estimate) / found.std_error), rel=1e-6)


def test_an_end_that_was_cut_does_not_count() -> None:
    """Student's t with 4 degrees of freedom, 2.776445 errors of 0.2 above 0.7 would be over 1."""
    cut = Interval(0.7, 0.7 - 2.7764451 * 0.2, 1.0, 0.2)
    mirrored = Interval(-0.7, -1.0, -cut.low, 0.2)
    assert p_value(cut) == p_value(mirrored) == pytest.approx(2 * t.sf(3.5, 4), rel=1e-5)


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (Interval(0.1, NAN, NAN, 0.2, "too few positives"), NAN),
        (Interval(NAN, NAN, NAN, NAN), NAN),
        (Interval(0.1, 0.1, 0.1, 0.0, "no spread"), NAN),
        (Interval(0.0, 0.0, 0.0, 0.0, "no spread"), 1.0),
        (Interval(0.0, -0.2, 0.2, 0.1), 1.0),
    ],
)
def test_p_values_at_the_edge(interval: Interval, expected: float) -> None:
    assert p_value(interval) == pytest.approx(expected, nan_ok=True)


def test_holm_by_hand() -> None:
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.6, 0.7])) == pytest.approx([1, 1])
    assert holm(np.array([0.2])) == pytest.approx([0.2]) and len(holm(np.array([]))) == 0


def test_holm_as_defined() -> None:
    rng = np.random.default_rng(1)
    for count in range(1, 9):
        p = rng.choice([0.001, 0.01, 0.02, 0.3, 0.7], count) if count % 2 else rng.random(count) ** 3
        assert holm(p) == pytest.approx(slow_holm(p.tolist()))


def test_nan_passes_and_is_no_comparison() -> None:
    found = holm(np.array([NAN, 0.01, NAN, 0.04]))
    assert found == pytest.approx([NAN, 0.02, NAN, 0.04], nan_ok=True)
    assert np.isnan(holm(np.full(3, NAN))).all()


def test_holm_errs_once_in_twenty_sets() -> None:
    """Five true nulls that go together and one that is false: some null is rejected in at most 5 % of the sets."""
    rng = np.random.default_rng(2)
    z = rng.normal(size=(3000, 1)) * 0.5 + rng.normal(size=(3000, 6)) * 0.75**0.5
    p = 2 * norm.sf(np.abs(z + np.eye(6)[0] * 3))
    wrong = [bool((holm(row)[1:] <= 0.05).any()) for row in p]
    assert 0.02 < np.mean(wrong) < 0.06 < np.mean((p[:, 1:] <= 0.05).any(1))


@pytest.mark.parametrize("p", [[0.5, 1.1], [-0.1], [[0.1]]])
def test_what_is_no_p_value_is_refused(p: Any) -> None:
    values: NDArray[np.float64] = np.array(p)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        holm(values)
