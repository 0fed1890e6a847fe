"""Batches of tasks for meta-learning: each task has support rows to adapt on, and other rows, its query."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns
from funnelcast.data.loader import Loader, seed_of
from funnelcast.errors import DataError

Int64s = NDArray[np.int64]


class Loading(Protocol):
    """Batches of training rows, epoch by epoch."""

    @property
    def num_rows(self) -> int:
        """Of an epoch."""

    @property
    def batch_size(self) -> int:
        """Rows of a batch, at most."""

    def __len__(self) -> int:
        """Batches of an epoch."""

    def epoch(self, epoch: int, start: int = 0) -> Generator[Any]:
        """From batch `start` on."""


class TaskBatch(NamedTuple):
    """Some tasks. Their rows stand task after task, the support of each before its query."""

    batch: Batch
    sizes: tuple[tuple[int, int], ...]
    """Support rows and query rows of each task, all at least 1."""

    @property
    def rows(self) -> int:
        """Of all tasks."""
        return len(self.batch)

    def to(self, device: torch.device) -> TaskBatch:
        """On a device."""
        return self._replace(batch=self.batch.to(device))

    def tasks(self) -> Iterator[tuple[Batch, Batch]]:
        """Support and query of each task, sharing memory."""
        start = 0
        for support, query in self.sizes:
            middle, end = start + support, start + support + query
            yield self.batch.slice(start, middle), self.batch.slice(middle, end)
            start = end


@dataclass(frozen=True)
class Halves:
    """Tasks that are parts of random batches, half support and half query (the query has the odd row).

    A batch of fewer than 2 * `tasks` rows has fewer tasks; a last one of a single row is left out.
    """

    loader: Loader  # of batches of at least 2 rows
    tasks: int  # of a step, at least 1

    @property
    def batch_size(self) -> int:
        return self.loader.batch_size

    @property
    def num_rows(self) -> int:
        """Rows of an epoch."""
        rows = self.loader.num_rows
        return rows - (rows % self.batch_size == 1)

    def __len__(self) -> int:
        """Steps of an epoch."""
        return -(-self.num_rows // self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Generator[TaskBatch]:
        """The steps of an epoch from step `start` on."""
        for batch in self.loader.epoch(epoch, start):
            if len(batch) > 1:
                yield TaskBatch(batch, self._sizes(len(batch)))

    def _sizes(self, rows: int) -> tuple[tuple[int, int], ...]:
        tasks = min(self.tasks, rows // 2)
        sizes = [(rows + i) // tasks for i in range(tasks)]
        return tuple((size // 2, size - size // 2) for size in sizes)


@dataclass(frozen=True)
class Keyed:
    """Tasks that are rows of one key each: a campaign, an ad, a shop, a user, a scenario. Made by `of`.

    A step has distinct keys, and of each `batch_size` // `tasks` rows, or all where it has fewer.
    """

    rows: Batch  # the whole part, memory-mapped
    order: Int64s  # (n,) rows that are used, key after key
    bounds: Int64s  # (K + 1,): key k has order[bounds[k]:bounds[k + 1]]
    chances: Int64s  # (K + 1,), from 0, rising by each key's chance to be drawn
    batch_size: int
    tasks: int
    seed: int
    support_share: float
    stratified: bool

    @classmethod
    def of(
        cls,
        columns: Columns,
        keys: NDArray[Any],
        known: NDArray[np.bool_],
        batch_size: int,
        tasks: int,
        seed: int,
        *,
        keep_negatives: float = 1.0,
        support_share: float = 0.5,
        min_rows: int = 2,
        sampling: Literal["proportional", "uniform"] = "proportional",
        stratified: bool = True,
    ) -> Keyed:
        """`keys` (N,), sortable; `known` (N,): whether a row's key is one, other rows are in no task.

        `batch_size`, at least 2 * `tasks`: rows of a step, at most; `keep_negatives`: as of `Loader`; `support_share`,
        above 0 and below 1: of a task's rows, but either set has one; `min_rows`, at least 2: a key with fewer is no
        task; `sampling`: a key's chance is as its rows, or equal; `stratified`: of the rows that reached each number of
        steps the support has the same share, to within a row.

        Raises DataError when fewer than `tasks` keys have `min_rows` rows.
        """
        assert len(keys) == len(known) == len(columns) and batch_size >= 2 * tasks and min_rows >= 2
        loader = Loader.of(columns, batch_size, seed, keep_negatives)
        chosen = np.arange(len(columns)) if loader.chosen is None else loader.chosen.numpy()
        rows, counts = _group(keys, chosen[known[chosen]])
        enough = counts >= min_rows
        if enough.sum() < tasks:
            raise DataError(
                f"{enough.sum()} of {len(counts)} keys have min_rows = {min_rows} usable rows (the largest has "
                f"{counts.max(initial=0)}), and a step needs tasks = {tasks} of them; lower min_rows or tasks, or "
                "group by a key with more rows"
            )
        bounds = np.append(0, np.cumsum(counts[enough]))
        chances = bounds if sampling == "proportional" else np.arange(len(bounds))
        order = rows[np.repeat(enough, counts)]
        return cls(loader.rows, order, bounds, chances, batch_size, tasks, seed, support_share, stratified)

    @property
    def num_rows(self) -> int:
        """Rows that can be drawn."""
        return len(self.order)

    def __len__(self) -> int:
        """Steps of an epoch: the full batches that there are rows for, at least 1."""
        return max(self.num_rows // self.batch_size, 1)

    def epoch(self, epoch: int, start: int = 0) -> Generator[TaskBatch]:
        """The steps of an epoch from step `start` on; each depends on the seed, the epoch and its number alone."""
        for step in range(start, len(self)):
            rng = np.random.default_rng(seed_of(self.seed, "episodes", epoch, step))
            halves = [self._halves(key, rng) for key in _draw(self.chances, self.tasks, rng)]
            rows = np.concatenate([half for task in halves for half in task])
            sizes = tuple((len(support), len(query)) for support, query in halves)
            yield TaskBatch(self.rows.take(torch.from_numpy(rows)), sizes)

    def _halves(self, key: int, rng: np.random.Generator) -> tuple[Int64s, Int64s]:
        """Support and query rows of one task."""
        start, stop = self.bounds[key : key + 2].tolist()
        size = min(self.batch_size // self.tasks, stop - start)
        rows = self.order[start + rng.choice(stop - start, size, replace=False)]
        if self.stratified:
            rows = rows[np.argsort(self._depth(rows), kind="stable")]
        support = min(max(round(self.support_share * size), 1), size - 1)
        is_support = (np.arange(size) * support + rng.integers(size)) % size < support  # evenly, in any stretch
        return rows[is_support], rows[~is_support]

    def _depth(self, rows: Int64s) -> Int64s:
        """(n,) how many steps rows reached."""
        assert self.rows.labels is not None
        return np.asarray((self.rows.labels[torch.from_numpy(rows)] == 1).sum(1))


def _group(keys: NDArray[Any], rows: Int64s) -> tuple[Int64s, Int64s]:
    """`rows` (n,) key after key, and how many each key has (K,)."""
    order = np.argsort(keys[rows], kind="stable")
    found = keys[rows[order]]
    is_first = np.append(True, found[1:] != found[:-1])[: len(rows)]
    return rows[order], np.diff(np.flatnonzero(is_first), append=len(rows))


def _draw(chances: Int64s, number: int, rng: np.random.Generator) -> list[int]:
    """Distinct keys, each by its chance among those not yet drawn.

    `rng.choice` with chances takes a pass over all keys, and drawing until a new key comes may take forever where one
    key has nearly all rows. So a draw is from the range of the others, and steps over what is drawn.
    """
    drawn: dict[int, int] = {}  # chance by key
    for _ in range(number):
        at = int(rng.integers(chances[-1] - sum(drawn.values())))
        for key in sorted(drawn):
            at += drawn[key] if at >= chances[key] else 0
        key = int(np.searchsorted(chances, at, side="right")) - 1
        drawn[key] = int(chances[key + 1] - chances[key])
    return list(drawn)
