"""Field-ECE and field-RCE against loops over groups, and their noise floors against what chance gives."""

import math

import numpy as np
import pytest

from funnelcast.evaluation.group_calibration import EPSILON, group_calibration


def drawn(rows: int, groups: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Labels that are drawn from their probabilities, in groups, with weights."""
    rng = np.random.default_rng([seed, 1])  # not the stream of the floors
    p = rng.uniform(0.01, 0.3, rows)
    return (rng.random(rows) < p).astype(np.uint8), p, rng.integers(0, groups, rows), rng.uniform(0.1, 3, rows)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("names", [np.int64, str])
def test_figures_are_those_of_loops_over_groups(names: type, weighted: bool) -> None:
    y, p, groups, w = drawn(500, 7)
    w = w if weighted else np.ones(500)
    found = group_calibration(y, p, groups.astype(names), w if weighted else None)
    ece = rce = 0.0
    ratios = []
    for name in np.unique(groups.astype(names)):
        own = groups.astype(names) == name
        gap = abs(sum(w[own] * (y[own] - p[own])))
        ece += gap / w.sum()
        rce += w[own].sum() * gap / sum(w[own] * (y[own] + EPSILON)) / w.sum()
        ratios.append(sum(w[own] * y[own]) / sum(w[own] * p[own]))
    assert found.field_ece == pytest.approx(ece) and found.field_rce == pytest.approx(rce)
    np.testing.assert_allclose(found.observed_over_predicted, ratios)


def test_the_floor_is_what_chance_alone_gives() -> None:
    """Of a sum of n labels with variance v the mean error is √(2 v / π)."""
    y, p, groups, _ = drawn(40_000, 8)
    found = group_calibration(y, p, groups, draws=400)
    expected = sum(math.sqrt(2 / math.pi * (p[groups == g] * (1 - p[groups == g])).sum()) for g in range(8)) / len(p)
    assert found.field_ece_floor == pytest.approx(expected, rel=0.05)
    values = [group_calibration(*drawn(40_000, 8, seed)[:3]).field_ece for seed in range(1, 20)]
    assert np.mean(values) == pytest.approx(expected, rel=0.25)
    wrong = group_calibration(y, np.minimum(1, p * np.where(groups < 4, 1.2, 0.8)), groups)
    assert wrong.field_ece > 5 * wrong.field_ece_floor and wrong.field_rce > 5 * wrong.field_rce_floor


def test_the_same_call_gives_the_same_floor() -> None:
    y, p, groups, w = drawn(300, 5)
    assert group_calibration(y, p, groups, w).field_rce_floor == group_calibration(y, p, groups, w).field_rce_floor


def test_groups_without_positives_predictions_or_weight() -> None:
    """A relative error has a number where nothing was observed; where nothing is predicted a ratio has none."""
    found = group_calibration(np.array([0, 0, 1, 0]), np.array([0.5, 0.5, 0.5, 0.0]), np.array(["a", "a", "b", "c"]))
    assert found.field_ece == pytest.approx((1 + 0.5) / 4)
    assert found.field_rce == pytest.approx((2 * 1 / (2 * EPSILON) + 0.5 / (1 + EPSILON)) / 4)
    assert found.observed_over_predicted[:2].tolist() == [0, 2] and math.isnan(found.observed_over_predicted[2])
    none = np.zeros(0)
    assert math.isnan(group_calibration(none, none, none).field_ece)
    empty = group_calibration(np.array([1]), np.array([0.5]), np.array([3]), np.array([0.0]))
    assert math.isnan(empty.field_rce) and np.isnan(empty.observed_over_predicted).all()


def test_labels_that_are_not_observed_are_refused() -> None:
    with pytest.raises(ValueError, match="leave out rows whose label was not observed"):
        group_calibration(np.array([255]), np.array([0.5]), np.array([1]))
