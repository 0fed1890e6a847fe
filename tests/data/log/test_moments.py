"""Moments against fractions and numpy: exact, so the same for any order of rows and any size of batches."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from funnelcast.data.encoder import as_float
from funnelcast.data.log.moments import Moments
from funnelcast.errors import DataError


def moments(*batches: Any) -> Moments:
    found = Moments()
    for batch in batches:
        values = as_float(pa.array(batch, from_pandas=False), "x")
        found.add(values, np.ones(len(values), bool))
    return found


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_sums_have_every_bit(values: list[float]) -> None:
    """From the smallest number there is to the largest."""
    exact = [Fraction(value) for value in values]
    found = moments(np.array(values, float))
    assert found.count == len(values)
    assert Fraction(found._sum, 2**1075) == sum(exact)
    assert Fraction(found._squares, 2**2150) == sum(value * value for value in exact)


def test_the_ends_of_the_range() -> None:
    ends = np.array([5e-324, -5e-324, 2.2250738585072014e-308, -0.0, 0, np.finfo(float).max, -np.finfo(float).max, 1])
    exact = [Fraction(float(value)) for value in ends]
    found = moments(ends)
    assert Fraction(found._sum, 2**1075) == sum(exact)
    assert Fraction(found._squares, 2**2150) == sum(value * value for value in exact)


def test_moments_are_those_of_numpy_also_far_from_zero() -> None:
    values = 1e9 + np.random.default_rng(0).normal(size=200_000)
    found = moments([*values, None, math.nan, math.inf, -math.inf])
    assert found.count == len(values)
    assert found.standard().mean == pytest.approx(values.mean(), rel=1e-14)
    assert found.standard().std == pytest.approx(values.std(), rel=1e-9)


def test_neither_the_order_of_rows_nor_the_size_of_batches_changes_the_last_bit() -> None:
    values = np.random.default_rng(0).normal(size=300_000)
    found = moments(values).standard()
    assert moments(values[::-1]).standard() == found
    assert moments(*np.array_split(values, 7)).standard() == found


def test_rows_that_are_not_chosen_do_not_count() -> None:
    values, rows = np.arange(9.0), np.arange(9) % 3 == 1
    found = Moments()
    found.add(values, rows)
    assert found.standard() == moments(values[rows]).standard()
    assert found.standard().mean == 4


@pytest.mark.parametrize(
    ("values", "mean"),
    [([3, 3, None], 3), ([0.1] * 7, 0.1), ([None, None], 0), (pa.nulls(2, pa.float64()), 0), ([True, True], 1)],
)
def test_constant_and_missing_numbers_have_deviation_one(values: Any, mean: float) -> None:
    found = moments(values).standard()
    assert (found.mean, found.std) == (mean, 1)


def test_numbers_too_large_to_square_are_told() -> None:
    with pytest.raises(DataError, match="too large to standardise"):
        moments([1e300, -1e300]).standard()


def test_standardised_rows_have_mean_zero_and_deviation_one() -> None:
    values: NDArray[np.float64] = np.random.default_rng(1).gamma(2, size=1000)
    scaled = moments(values).standard()(values)
    assert scaled.mean() == pytest.approx(0, abs=1e-6) and scaled.std() == pytest.approx(1, abs=1e-6)
