"""Encoded rows as numpy arrays: what the encoder makes, a table stores, and a loader batches.

Shape letters of the whole package: N rows, F id fields, M numbers, T steps, B rows of a batch, E embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from funnelcast.compiled import compiled

UNOBSERVED = 255
"""The label of a step that was not observed in a row; left out of loss and metric."""


@dataclass(frozen=True)
class Ragged:
    """Lists of ids, K of them. Row i has list i; or list `index[i]`, where many rows share few lists."""

    offsets: NDArray[np.int64]  # (K + 1,), starts at 0: list k is `ids[offsets[k]:offsets[k + 1]]`
    ids: NDArray[np.int32]  # (total,)
    weights: NDArray[np.float32] | None = None  # (total,)
    index: NDArray[np.int32] | None = None  # (N,)

    def __len__(self) -> int:
        return len(self.offsets) - 1 if self.index is None else len(self.index)

    def take(self, rows: NDArray[np.int64]) -> Ragged:
        """The lists of `rows` (n,), in that order, one each."""
        lists = rows if self.index is None else self.index[rows]
        starts = self.offsets[lists]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(self.offsets[lists + 1] - starts, out=offsets[1:])
        weights = None if self.weights is None else _gather(np.asarray(self.weights), starts, offsets)
        return Ragged(offsets, _gather(np.asarray(self.ids), starts, offsets), weights)

    @staticmethod
    def concatenate(parts: Sequence[Ragged]) -> Ragged:
        """Of parts without an index."""
        bases = np.cumsum([0] + [part.offsets[-1] for part in parts[:-1]])
        offsets = [part.offsets[1:] + base for part, base in zip(parts, bases, strict=True)]
        weights = [part.weights for part in parts if part.weights is not None]
        return Ragged(
            np.concatenate([np.zeros(1, np.int64), *offsets]),
            np.concatenate([part.ids for part in parts]),
            np.concatenate(weights) if weights else None,
        )


def _gather(values: NDArray[Any], starts: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[Any]:
    out = np.empty(offsets[-1], values.dtype)
    copy_lists(values, starts, offsets, out)
    return out


@compiled
def copy_lists(values: Any, starts: Any, offsets: Any, out: Any) -> None:
    """out[offsets[i]:offsets[i + 1]] = as many of `values` from starts[i] on."""
    for i in range(len(starts)):
        shift = starts[i] - offsets[i]
        for at in range(offsets[i], offsets[i + 1]):
            out[at] = values[at + shift]


@dataclass(frozen=True)
class Columns:
    """N encoded rows. `labels` and `weight` are absent where rows are only to be scored."""

    ids: NDArray[np.int32]  # (N, F) row-major; id 0 is unknown or missing
    numeric: NDArray[np.float32]  # (N, M)
    ragged: dict[str, Ragged] = field(default_factory=dict)  # by feature
    labels: NDArray[np.uint8] | None = None  # (N, T): 0, 1 or UNOBSERVED
    weight: NDArray[np.float32] | None = None  # (N,)
    fold: NDArray[np.uint8] | None = None
    """(N,) of training rows: which target statistics they read, as those of all rows hold a row's own label."""

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.int64]) -> Columns:
        """Copies of `rows` (n,), in that order."""
        return Columns(
            self.ids[rows],
            self.numeric[rows],
            {name: ragged.take(rows) for name, ragged in self.ragged.items()},
            None if self.labels is None else self.labels[rows],
            None if self.weight is None else self.weight[rows],
            None if self.fold is None else self.fold[rows],
        )
