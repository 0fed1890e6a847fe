"""Fitting numbers against numpy: moments, quantiles, values that hold many of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funnelcast.data.log.engine import Engine
from funnelcast.data.log.fit import bin_edges, finite, fit_standard
from funnelcast.data.log.prepare import prepare
from funnelcast.data.numeric import Bins, Standard
from funnelcast.errors import DataError
from tests.data.log.test_prepare import parquet, schema


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Engine(tmp_path_factory.mktemp("engine")) as engine:
        yield engine


def column(engine: Engine, values: Any) -> Any:
    path = engine.folder / "log.parquet"
    pq.write_table(pa.table({"x": values}), path)
    return finite(engine.parquet([path])["x"])


def test_moments_are_those_of_numpy_also_far_from_zero(engine: Engine) -> None:
    values = 1e9 + np.random.default_rng(0).normal(size=200_000)
    found = fit_standard(engine, column(engine, [*values, None, math.nan, math.inf, -math.inf]))
    assert found.mean == pytest.approx(values.mean(), rel=1e-14)
    assert found.std == pytest.approx(values.std(), rel=1e-9)


def test_the_order_of_rows_does_not_change_the_last_bit(engine: Engine) -> None:
    values = np.random.default_rng(0).normal(size=300_000)
    assert fit_standard(engine, column(engine, values)) == fit_standard(engine, column(engine, values[::-1]))


@pytest.mark.parametrize(
    ("values", "mean"),
    [([3, 3, None], 3), ([0.1] * 7, 0.1), ([None, None], 0), (pa.nulls(2, pa.float64()), 0), ([True, True], 1)],
)
def test_constant_and_missing_numbers_have_deviation_one(engine: Engine, values: Any, mean: float) -> None:
    found = fit_standard(engine, column(engine, values))
    assert found.mean == pytest.approx(mean)
    assert found.std == 1


def test_numbers_too_large_to_square_are_told(engine: Engine) -> None:
    with pytest.raises(DataError, match="too large to standardise"):
        fit_standard(engine, column(engine, [1e300, -1e300]))


def test_distinct_numbers_go_to_bins_of_equal_size(engine: Engine) -> None:
    values = np.random.default_rng(0).permutation(1000).astype(float)
    bins = Bins(edges=tuple(bin_edges(engine, column(engine, values), 10)))
    assert bins.edges == tuple(range(100, 1000, 100))
    assert np.bincount(bins(values)).tolist() == [0] + [100] * 10


def test_zeros_have_a_bin_of_their_own(engine: Engine) -> None:
    edges = bin_edges(engine, column(engine, [0] * 90 + [*range(1, 11)]), 20)
    assert edges == [1, 6]
    assert bin_edges(engine, column(engine, [*range(-5, 0)] + [0] * 90 + [*range(1, 6)]), 10) == [0, 1]


def test_nothing_to_part(engine: Engine) -> None:
    assert bin_edges(engine, column(engine, [4, 4, 4]), 8) == []
    assert bin_edges(engine, column(engine, pa.nulls(3, pa.float64())), 8) == []


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-3, 6), min_size=1, max_size=40), st.integers(2, 12))
def test_bins_are_at_most_those_asked_for_and_none_is_empty(engine: Engine, values: list[int], count: int) -> None:
    edges = bin_edges(engine, column(engine, values), count)
    bins = Bins(edges=tuple(edges))
    assert edges == sorted(set(edges)) and set(edges) <= set(values)
    assert len(edges) + 1 <= count
    assert (np.bincount(bins(np.array(values, float)), minlength=len(bins))[1:] > 0).all()


def test_standardised_training_rows_have_mean_zero_and_deviation_one(engine: Engine) -> None:
    values = np.random.default_rng(1).gamma(2, size=1000)
    scaled = fit_standard(engine, column(engine, values))(values)
    assert isinstance(fit_standard(engine, column(engine, values)), Standard)
    assert (scaled.mean(), scaled.std()) == (pytest.approx(0, abs=1e-6), pytest.approx(1, abs=1e-6))


def test_rare_ids_are_counted(tmp_path: Path) -> None:
    log = parquet(tmp_path / "a.parquet", {"user": [1, 1, 2, 3, None], "item": ["a", "b", "c", "c", "c"]})
    features = {"user": {"min_count": 2}, "item": {"min_count": 9}}
    counts = prepare(schema(features), tmp_path / "out", train=log)["counts"]
    assert (counts["vocabulary user"], counts["rare ids of user"]) == (2, 2)
    assert (counts["vocabulary item"], counts["rare ids of item"]) == (1, 3)
