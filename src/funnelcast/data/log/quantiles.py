"""Edges between the numbers of a column, from its values in ascending order and how often each occurs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.log.engine import Engine
from funnelcast.data.log.splits import value_counts


def bin_edges(engine: Engine, column: Any, bins: int) -> list[float]:
    """Ascending starts of the bins after the first: the quantiles k / bins, and where one value holds several of them,
    the value after it too, so that it has a bin of its own (zeros apart from the smallest amount)."""
    total = int(engine.fetch(column.count()).as_py())
    ranks = np.unique(np.arange(1, bins) * total // bins)
    edges: list[float] = []
    below, after_heavy = 0, False
    for values, counts in _batches(engine, value_counts(column)):
        ends = below + np.cumsum(counts)
        held = np.searchsorted(ranks, ends) - np.searchsorted(ranks, ends - counts)
        follows = np.concatenate([[after_heavy], held[:-1] > 1])
        starts = (held > 0) | follows
        starts[0] &= below > 0
        edges += values[starts].tolist()
        below, after_heavy = int(ends[-1]), bool(held[-1] > 1)
    return edges


def piecewise_edges(engine: Engine, column: Any, bins: int) -> list[float]:
    """Ascending edges of at most so many bins, from the least value to the greatest: every value that holds at least
    1 / bins of the rows, and quantiles of the other rows, from which the heavy values so take no bins."""
    counts = engine.parquet([engine.save(value_counts(column), "counts")])
    total = int(engine.fetch(counts.n.sum()).as_py() or 0)
    heavy = engine.fetch(counts.filter(counts.n * bins >= total))
    light = total - int(np.sum(heavy["n"].to_numpy()))
    ranks = np.unique(np.arange(bins - len(heavy) + 1) * (light - 1) // max(1, bins - len(heavy)))
    edges: list[float] = []
    below = 0
    for values, held in _batches(engine, counts):
        is_heavy = held * bins >= total
        ends = below + np.cumsum(np.where(is_heavy, 0, held))
        starts = ends - np.where(is_heavy, 0, held)
        edges += values[is_heavy | (np.searchsorted(ranks, starts) < np.searchsorted(ranks, ends))].tolist()
        below = int(ends[-1])
    return edges


def _batches(engine: Engine, counts: Any) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    for batch in engine.stream(counts):
        if batch.num_rows:
            yield batch.column("value").to_numpy(), batch.column("n").to_numpy()
