"""Intervals of means over groups, by hand."""

import math

import numpy as np
import pytest

from funnelcast.evaluation.paired import mean_interval


def test_mean_and_interval_by_hand() -> None:
    """Mean 3, deviation √2.5, error √0.5; the 97.5 % quantile of Student's t with 4 degrees of freedom is 2.7764451."""
    found = mean_interval(np.array([1.0, 2, 3, 4, 5]))
    assert found.estimate == 3 and found.std_error == pytest.approx(0.5**0.5)
    assert found.high - 3 == pytest.approx(2.7764451 * 0.5**0.5, rel=1e-7)
    assert found.low == pytest.approx(6 - found.high)
    assert found.note == ""


def test_undefined_groups_are_left_out_and_counted() -> None:
    found = mean_interval(np.array([1.0, math.nan, 2, 3, 4, 5, math.nan]))
    assert found.estimate == 3 and found.note == "2 of 7 undefined"


@pytest.mark.parametrize(
    ("values", "note"),
    [([math.nan] * 4, "4 of 4 undefined"), ([2.0], "too few for an interval"), ([], "no values")],
)
def test_no_interval(values: list[float], note: str) -> None:
    found = mean_interval(np.array(values))
    assert math.isnan(found.low) and math.isnan(found.std_error) and found.note == note


def test_it_holds_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    found = [mean_interval(rng.normal(1, 2, 12)) for _ in range(2000)]
    assert np.mean([each.low <= 1 <= each.high for each in found]) == pytest.approx(0.95, abs=0.015)
