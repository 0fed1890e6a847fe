"""A batch on a device: the tensors of some rows of `Columns`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from funnelcast.data.columns import Columns, Ragged


@dataclass(frozen=True)
class Lists:
    """`Ragged` as tensors. Models are given lists without an index: row i has `ids[offsets[i]:offsets[i + 1]]`."""

    offsets: Tensor  # (B + 1,) int64, starts at 0
    ids: Tensor  # (total,) int32
    weights: Tensor | None = None  # (total,) float32
    index: Tensor | None = None  # (B,) int32

    def __len__(self) -> int:
        return len(self.offsets) - 1 if self.index is None else len(self.index)

    @classmethod
    def of(cls, ragged: Ragged) -> Lists:
        """Sharing memory."""
        ids, offsets = torch.from_numpy(ragged.ids), torch.from_numpy(ragged.offsets)
        weights, index = (None if a is None else torch.from_numpy(a) for a in (ragged.weights, ragged.index))
        return cls(offsets, ids, weights, index)

    def take(self, rows: Tensor) -> Lists:
        """Copies of the lists of `rows` (n,) int64, one each; on the CPU."""
        weights, index = (None if t is None else t.numpy() for t in (self.weights, self.index))
        return Lists.of(Ragged(self.offsets.numpy(), self.ids.numpy(), weights, index).take(rows.numpy()))

    def slice(self, start: int, stop: int) -> Lists:
        """Those of rows start … stop - 1, one each, sharing memory where no lists are shared."""
        if self.index is not None:
            return self.take(torch.arange(start, stop))
        offsets = self.offsets[start : stop + 1]
        first, last = int(offsets[0]), int(offsets[-1])
        weights = None if self.weights is None else self.weights[first:last]
        return Lists(offsets - first, self.ids[first:last], weights)

    def to(self, device: torch.device) -> Lists:
        offsets, ids = self.offsets.to(device, non_blocking=True), self.ids.to(device, non_blocking=True)
        weights, index = (None if t is None else t.to(device, non_blocking=True) for t in (self.weights, self.index))
        return Lists(offsets, ids, weights, index)


@dataclass(frozen=True)
class Batch:
    """B rows, or all rows of a part."""

    ids: Tensor  # (B, F) int32
    numeric: Tensor  # (B, M) float32
    labels: Tensor | None = None  # (B, T) uint8
    weight: Tensor | None = None  # (B,) float32
    lists: dict[str, Lists] = field(default_factory=dict)  # by feature
    fold: Tensor | None = None  # (B,) uint8

    def __len__(self) -> int:
        return self.ids.shape[0]

    @classmethod
    def of(cls, columns: Columns) -> Batch:
        """All rows of `columns`, sharing their memory."""
        return cls(
            torch.from_numpy(columns.ids),
            torch.from_numpy(columns.numeric),
            None if columns.labels is None else torch.from_numpy(columns.labels),
            None if columns.weight is None else torch.from_numpy(columns.weight),
            {name: Lists.of(ragged) for name, ragged in columns.ragged.items()},
            None if columns.fold is None else torch.from_numpy(columns.fold),
        )

    def take(self, rows: Tensor) -> Batch:
        """Copies of `rows` (n,) int64, in that order."""
        return self._each(lambda tensor: tensor.index_select(0, rows), lambda lists: lists.take(rows))

    def slice(self, start: int, stop: int) -> Batch:
        """Rows start … stop - 1, sharing memory."""
        stop = min(stop, len(self))
        return self._each(lambda tensor: tensor[start:stop], lambda lists: lists.slice(start, stop))

    def copied(self) -> Batch:
        """In memory of its own; without lists, which are read when rows are looked up."""
        return replace(self, lists={})._each(Tensor.clone, lambda lists: lists)

    def to(self, device: torch.device) -> Batch:
        return self._each(lambda tensor: tensor.to(device, non_blocking=True), lambda lists: lists.to(device))

    def _each(self, change: Callable[[Tensor], Tensor], change_lists: Callable[[Lists], Lists]) -> Batch:
        labels, weight, fold = self.labels, self.weight, self.fold
        return Batch(
            change(self.ids),
            change(self.numeric),
            None if labels is None else change(labels),
            None if weight is None else change(weight),
            {name: change_lists(lists) for name, lists in self.lists.items()},
            None if fold is None else change(fold),
        )
