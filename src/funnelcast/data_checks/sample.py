"""The rows of a part that checks of single features look at, and shares of them with their standard error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.columns import Columns
from funnelcast.data.table import Table

MOST_ROWS, LEAST_ROWS = 1_000_000, 100_000
CELLS = 64_000_000
"""Rows times features that are looked at: wide tables have fewer rows looked at."""
BLOCK = 1024
STRETCHES = 40


@dataclass(frozen=True)
class Sample:
    """n rows of a part, in its order."""

    part: str
    columns: Columns
    """All rows of the part, memory-mapped."""
    rows: NDArray[np.int64]
    """(n,) ascending."""

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def labels(self) -> NDArray[np.uint8]:
        """(n, T): 0, 1 or UNOBSERVED."""
        assert self.columns.labels is not None
        return np.asarray(self.columns.labels[self.rows])

    @cached_property
    def weight(self) -> NDArray[np.float64]:
        """(n,) with mean 1; 1 each where rows have no weight, or none has."""
        weight = np.zeros(1) if self.columns.weight is None else self.columns.weight[self.rows].astype(np.float64)
        return weight / weight.mean() if weight.any() else np.ones(len(self))

    @property
    def stretches(self) -> int:
        """How many stretches of neighbouring rows there are. Rows of one user or session lie together in many logs, so
        stretches differ by what chance does to whole users, where rows do not."""
        return max(1, min(STRETCHES, len(self) // 10))

    @cached_property
    def stretch(self) -> NDArray[np.int64]:
        """(n,) which stretch a row is of, ascending."""
        return np.arange(len(self)) * self.stretches // max(1, len(self))

    def thinned(self, step: int) -> Sample:
        """Every so manieth row."""
        return self if step == 1 else Sample(self.part, self.columns, self.rows[::step])


def look_at(table: Table, part: str) -> Sample:
    """Rows of a part, those without weight left out. Raises TableError where the part has none, or is damaged."""
    columns = table.part(part)
    limit = min(MOST_ROWS, max(LEAST_ROWS, CELLS // len(table.schema.features)))
    rows = evenly_spaced(len(columns), limit, seed=0)
    counted = rows if columns.weight is None else rows[columns.weight[rows] > 0]
    return Sample(part, columns, counted if len(counted) else rows)


def evenly_spaced(total: int, limit: int, seed: int) -> NDArray[np.int64]:
    """All of `total` rows, or about `limit` in blocks: one at a random place of each equal share of the part."""
    if total <= limit:
        return np.arange(total)
    blocks = max(1, limit // BLOCK)
    width, offsets = total / blocks, np.random.default_rng(seed).random(blocks)
    first = ((np.arange(blocks) + offsets * (1 - BLOCK / width)) * width).astype(np.int64)
    return (first[:, None] + np.arange(BLOCK)).ravel()


Z = 1.96


class Share(NamedTuple):
    """A share with its standard error."""

    value: float
    error: float

    @property
    def low(self) -> float:
        return max(0.0, self.value - Z * self.error)

    @property
    def high(self) -> float:
        return min(1.0, self.value + Z * self.error)


def by_stretches(sample: Sample, hits: NDArray[np.bool_], among: NDArray[np.bool_]) -> Share:
    """The share, by weight, of rows `among` (n,) that are `hits` (n,), and what stretches of the rows say of its error.

    The ratio estimate over stretches (Cochran 1977, 6.4), at least that of independent rows.
    """
    count = sample.stretches
    weight = sample.weight * among
    total = np.bincount(sample.stretch, weight, count)
    reached = np.bincount(sample.stretch, weight * hits, count)
    share = float(reached.sum() / total.sum())
    evenly_spaced = float(np.sum((reached - share * total) ** 2)) * count / max(1, count - 1)
    independent = share * (1 - share) * float(weight @ weight)
    return Share(share, math.sqrt(max(evenly_spaced, independent)) / float(total.sum()))
