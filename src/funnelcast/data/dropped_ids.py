"""Ids that training reads as unknown at random, so that what stands for unknown ones is trained on rows of any kind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Self

import torch
from torch import Tensor

from funnelcast.data.batch import Batch

BLOCK = 1 << 20
"""Rows that are counted at once."""


@dataclass(frozen=True)
class DroppedIds:
    """An id of n training rows is dropped with probability u / (u + n): rare ids often, as those are what unknown ids
    would have been a little earlier, and frequent ones hardly ever (after DropoutNet, Volkovs et al. 2017)."""

    probabilities: Tensor  # (sum of V,) of every id, field by field
    starts: Tensor  # (F,) int32 where those of each field begin

    @classmethod
    def of(cls, rows: Batch, chosen: Tensor | None, unknown: float) -> Self:
        """`rows`: of a part, of which the `chosen` ones (n,) are trained on, or all; `unknown`: u, in rows."""
        counts = [torch.zeros(0, dtype=torch.int64)] * rows.ids.shape[1]
        total = len(rows) if chosen is None else len(chosen)
        for start in range(0, total, BLOCK):
            stop = min(start + BLOCK, total)
            ids = rows.ids[start:stop] if chosen is None else rows.ids.index_select(0, chosen[start:stop])
            counts = [_added(own, ids[:, field]) for field, own in enumerate(counts)]
        sizes = [len(own) for own in counts]
        starts = torch.tensor([0, *accumulate(sizes)][: len(sizes)], dtype=torch.int32)
        rows_of = torch.cat(counts) if counts else torch.zeros(0)
        return cls(unknown / (unknown + rows_of), starts)

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """A batch of those rows with some ids 0."""
        drawn = torch.rand(batch.ids.shape, generator=generator)
        return replace(batch, ids=torch.where(drawn < self.probabilities[batch.ids + self.starts], 0, batch.ids))


def _added(counts: Tensor, ids: Tensor) -> Tensor:
    """With the ids (n,) counted too."""
    found = torch.bincount(ids, minlength=len(counts))
    found[: len(counts)] += counts
    return found
