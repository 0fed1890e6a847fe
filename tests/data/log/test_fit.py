"""Fitting numbers and ids: quantiles against numpy, values that hold many of them, which rows are seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funnelcast.data.log.engine import Engine
from funnelcast.data.log.fit import finite
from funnelcast.data.log.prepare import prepare
from funnelcast.data.log.quantiles import bin_edges, piecewise_edges
from funnelcast.data.numeric import Bins, Piecewise
from funnelcast.data.table import Table
from tests.data.log.test_moments import moments
from tests.data.log.test_prepare import parquet, schema


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Engine(tmp_path_factory.mktemp("engine")) as engine:
        yield engine


def column(engine: Engine, values: Any) -> Any:
    path = engine.folder / "log.parquet"
    pq.write_table(pa.table({"x": values}), path)
    return finite(engine.parquet([path])["x"])


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


def test_bins_of_unique_numbers_hold_as_many_each(engine: Engine) -> None:
    values = np.random.default_rng(0).permutation(1001).astype(float)
    assert piecewise_edges(engine, column(engine, values), 10) == list(range(0, 1001, 100))


def test_heavy_values_are_edges_and_take_no_bins_from_the_others(engine: Engine) -> None:
    """90 % zeros: nine of ten bins are for the amounts, and one leads to the least of them."""
    amounts = [float(x) for x in range(1, 101)]
    assert piecewise_edges(engine, column(engine, [0.0] * 900 + amounts), 10) == [
        0,
        1,
        12,
        23,
        34,
        45,
        56,
        67,
        78,
        89,
        100,
    ]
    assert piecewise_edges(engine, column(engine, [5.0] * 900 + [7.0] * 900 + [9.0]), 2) == [5, 7, 9]


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-3, 6), max_size=40), st.integers(2, 12))
def test_bins_reach_from_the_least_to_the_greatest(engine: Engine, values: list[int], count: int) -> None:
    edges = piecewise_edges(engine, column(engine, pa.array(values, pa.float64())), count)
    assert edges == sorted(set(edges)) and set(edges) <= set(values)
    assert len(edges) <= count + 1
    assert edges[:1] + edges[-1:] == ([min(values), max(values)] if values else [])
    counts = {value: values.count(value) for value in values}
    assert {value for value, n in counts.items() if n * count >= len(values)} <= set(edges)


def test_a_number_in_bins_is_standardised_and_brings_their_edges(tmp_path: Path) -> None:
    amounts = [0.0, 0.0, 0.0, 1.0, 2.0, 8.0, None]
    log = parquet(tmp_path / "a.parquet", {"x": amounts})
    found = schema({"x": {"kind": "numeric", "transform": "piecewise", "bins": 2}})
    prepare(found, tmp_path / "out", train=log)
    table = Table.open(tmp_path / "out")
    standard = moments(np.array(amounts[:-1])).standard()
    assert table.encoder.numbers["x"] == Piecewise(mean=standard.mean, std=standard.std, edges=(0, 1, 8))
    assert table.encoder.inputs.bin_edges == {"x": tuple(standard(np.array([0.0, 1.0, 8.0])).tolist())}
    assert table.part("train").numeric[:, 0].tolist() == standard(np.array(amounts, float)).tolist()


@pytest.mark.slow
def test_what_is_fitted_sees_used_rows_alone_whichever_file_holds_the_column(tmp_path: Path) -> None:
    """Read from a CSV or Parquet, apart from the rest or kept beside it, more rows than a batch."""
    n = 70_000
    x = np.random.default_rng(0).normal(3, 2, n).round(3)
    used = np.arange(n) % 5 > 1
    columns = {"x": x, "k": x, "i": np.arange(n), "click": np.where(used, 1, 2 * (np.arange(n) % 5)), "buy": used * 0}
    columns["buy"][np.arange(n) % 5 == 0] = 1  # contradicts click 0; click is 2 where it is 1
    log = pa.table(columns)
    pq.write_table(log, tmp_path / "a.parquet")
    pa.csv.write_csv(log, tmp_path / "a.csv")
    features = {name: {"kind": "numeric"} for name in ("x", "k", "i")}
    for name in ("a.parquet", "a.csv"):
        found = schema(features, keep=["k"])
        prepare(found, tmp_path / "out", train=tmp_path / name, max_bad=0.3, replace=True)
        table = Table.open(tmp_path / "out")
        assert table.encoder.numbers["x"] == table.encoder.numbers["k"] == moments(x[used]).standard()
        numeric = table.part("train").numeric
        expected = (np.arange(n)[used] - np.arange(n)[used].mean()) / np.arange(n)[used].std()
        assert np.allclose(numeric[:, 2], expected, atol=1e-6)
        assert np.allclose(numeric[:, 0].mean(), 0, atol=1e-6) and (numeric[:, 0] == numeric[:, 1]).all()


def test_rare_ids_are_counted(tmp_path: Path) -> None:
    log = parquet(tmp_path / "a.parquet", {"user": [1, 1, 2, 3, None], "item": ["a", "b", "c", "c", "c"]})
    features = {"user": {"min_count": 2}, "item": {"min_count": 9}}
    counts = prepare(schema(features), tmp_path / "out", train=log)["counts"]
    assert (counts["vocabulary user"], counts["rare ids of user"]) == (2, 2)
    assert (counts["vocabulary item"], counts["rare ids of item"]) == (1, 3)
