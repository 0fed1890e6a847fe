"""A batch on a device: the tensors of some rows of `Columns`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from funnelcast.data.columns import Columns


@dataclass(frozen=True)
class Batch:
    """B rows. The lists of multi-valued features join it with the models that read them."""

    ids: Tensor  # (B, F) int32
    numeric: Tensor  # (B, M) float32
    labels: Tensor | None = None  # (B, T) uint8
    weight: Tensor | None = None  # (B,) float32

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
        )

    def take(self, rows: Tensor) -> Batch:
        """Copies of `rows` (n,) int64, in that order."""
        return self._each(lambda tensor: tensor.index_select(0, rows))

    def slice(self, start: int, stop: int) -> Batch:
        """Rows start … stop - 1, sharing memory."""
        return self._each(lambda tensor: tensor[start:stop])

    def to(self, device: torch.device) -> Batch:
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        labels, weight = self.labels, self.weight
        return Batch(
            change(self.ids),
            change(self.numeric),
            None if labels is None else change(labels),
            None if weight is None else change(weight),
        )
