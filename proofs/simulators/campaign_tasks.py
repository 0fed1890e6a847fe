"""Tasks of the simulated campaigns: those held out, each with the requested support and query rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np

from funnelcast.data.columns import Columns
from funnelcast.fewshot.tasks import Task, TaskOutput
from proofs.simulators.campaigns import CampaignSimulator, Floats, Sample

CHUNK = 4096
"""Rows that are drawn at once, so that more support rows begin with the same ones."""


@dataclass(frozen=True)
class CampaignTasks(Sequence[Task]):
    """Held-out campaigns, drawn when they are requested: of rare clicks, 1,024 stand in very many rows."""

    simulator: CampaignSimulator
    target: TaskOutput
    number: int = 200
    support: int = 1024
    """Rows that count, in the support of each; all others that come before the last of them are in it too."""
    query: int = 2000
    """Rows that count, in the query of each; it has no others."""
    feature: bool = False
    """Whether campaigns are read as ids, of which these are all unknown."""

    def __len__(self) -> int:
        return self.number

    @overload
    def __getitem__(self, i: int) -> Task: ...
    @overload
    def __getitem__(self, i: slice) -> list[Task]: ...
    def __getitem__(self, i: int | slice) -> Task | list[Task]:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(self.number))]
        if not 0 <= i < self.number:
            raise IndexError(i)
        support = self._until(i, 0, self.support)
        return Task(f"held-out {i}", self._read(support), self._read(self._query(i)))

    def truth(self, i: int) -> Floats:
        """(N, 2) true probabilities of the query rows of a task."""
        return self._query(i).p

    @cached_property
    def own(self) -> Floats:
        """(number, 2, 3) of the campaigns."""
        return self.simulator.draw_campaigns(self.number, held_out=True)

    def _query(self, i: int) -> Sample:
        drawn = self._until(i, 1, self.query)
        return drawn.take(np.flatnonzero(self.target.space(drawn.columns)))

    def _until(self, i: int, part: int, size: int) -> Sample:
        """Rows of a campaign up to the one with which `size` count."""
        found, have = list[Sample](), 0
        for drawn in self._chunks(i, part):
            counted = np.cumsum(self.target.space(drawn.columns)) + have
            have = int(counted[-1])
            if have >= size:
                found.append(drawn.take(np.arange(np.searchsorted(counted, size) + 1)))
                return _joined(found)
            found.append(drawn)
        raise AssertionError("chunks never end")

    def _chunks(self, i: int, part: int) -> Iterator[Sample]:
        rng = np.random.default_rng([self.simulator.seed, 8, i, part])
        while True:
            yield self.simulator.sample(np.broadcast_to(self.own[i], (CHUNK, *self.own[i].shape)), rng)

    def _read(self, drawn: Sample) -> Columns:
        columns = drawn.columns
        if not self.feature:
            return columns
        unknown = np.zeros((len(columns), 1), np.int32)
        return Columns(np.concatenate([columns.ids, unknown], 1), columns.numeric, labels=columns.labels)


def _joined(samples: list[Sample]) -> Sample:
    columns = [each.columns for each in samples]
    ids, numeric = (np.concatenate([getattr(c, name) for c in columns]) for name in ("ids", "numeric"))
    labels = np.concatenate([c.labels for c in columns if c.labels is not None])
    return Sample(Columns(ids, numeric, labels=labels), np.concatenate([each.p for each in samples]))
