"""Lists of ids as sums and as elements: what the layers do with offsets, without a loop over rows.

Sizes are taken from `shape`, as `len` would fix them when a model is exported.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from funnelcast.data.batch import Lists

Pool = Literal["sum", "mean", "weighted_mean"]
"""How the vectors e of a list become one: Σ w e, with w = 1 where ids have no weights; Σ e / n; Σ w e / Σ |w|. An empty
list is 0."""


class Bag(NamedTuple):
    """A pooled list: the vector of row i is Σ_k factors[k] · e_k over k from offsets[i] to offsets[i + 1]."""

    offsets: Tensor  # (B + 1,) int64
    factors: Tensor  # (total,)

    def add_up(self, rows: Tensor, table: Tensor) -> Tensor:
        """Of the rows (total,) of a table (V, E) -> (B, E). Where gradients are recorded by plain operations, which
        have a second derivative; training and scoring record none here."""
        factors = self.factors.to(table.dtype)
        if torch.is_grad_enabled():
            vectors = table.index_select(0, rows) * factors[:, None]
            return Elements(vectors, self.offsets).sums(vectors)
        offsets = self.offsets.to(rows.dtype)[:-1]
        return functional.embedding_bag(rows, table, offsets, mode="sum", per_sample_weights=factors)


class Elements(NamedTuple):
    """A vector per element of the lists of a batch; those of row i stand at offsets[i] … offsets[i + 1] - 1."""

    vectors: Tensor  # (total, E)
    offsets: Tensor  # (B + 1,) int64

    def slice(self, start: int, stop: int) -> Elements:
        """Those of rows start … stop - 1."""
        offsets = self.offsets[start : stop + 1]
        first, last = int(offsets[0]), int(offsets[-1])
        return Elements(self.vectors[first:last], offsets - first)

    def split(self, rows: int) -> list[Elements]:
        """Those of so many rows at a time."""
        ends = [*self.offsets[:-1:rows].tolist(), int(self.offsets[-1])]
        vectors = self.vectors.split([end - start for start, end in pairwise(ends)])
        offsets = [self.offsets[i : i + rows + 1] for i in range(0, self.offsets.shape[0] - 1, rows)]
        return [Elements(own, part - part[0]) for own, part in zip(vectors, offsets, strict=True)]

    @property
    def lengths(self) -> Tensor:
        """(B,), elements of each row."""
        return self.offsets[1:] - self.offsets[:-1]

    def owners(self) -> Tensor:
        """The row (total,) that each element belongs to."""
        return owners(self.offsets, self.vectors.shape[0])

    def ages(self, owners: Tensor) -> Tensor:
        """How many elements of its row come after each, (total,): 0 for the newest."""
        positions = torch.arange(self.vectors.shape[0], device=self.offsets.device)
        return self.offsets[1:][owners] - 1 - positions

    def sums(self, values: Tensor, owners: Tensor | None = None) -> Tensor:
        """Sum per row of values (total, n) -> (B, n)."""
        owners = self.owners() if owners is None else owners
        return values.new_zeros(self.offsets.shape[0] - 1, values.shape[1]).index_add(0, owners, values)


def owners(offsets: Tensor, total: int) -> Tensor:
    """The row (total,) of each element of lists with these offsets (B + 1,)."""
    rows = torch.arange(offsets.shape[0] - 1, device=offsets.device)
    return rows.repeat_interleave(offsets[1:] - offsets[:-1], output_size=total)


def bag_of(lists: Lists, pool: Pool) -> Bag:
    """The sums that a pool makes of lists."""
    total = lists.ids.shape[0]
    weights = lists.weights if lists.weights is not None else torch.ones(total, device=lists.ids.device)
    if pool == "sum":
        return Bag(lists.offsets, weights)
    rows = owners(lists.offsets, total)
    if pool == "mean":
        return Bag(lists.offsets, (1 / (lists.offsets[1:] - lists.offsets[:-1]))[rows])
    sums = weights.new_zeros(lists.offsets.shape[0] - 1).index_add(0, rows, weights.abs())
    return Bag(lists.offsets, weights / sums.clamp(min=torch.finfo(sums.dtype).tiny)[rows])
