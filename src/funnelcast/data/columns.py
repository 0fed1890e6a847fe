"""Encoded rows as numpy arrays: what the encoder makes, a table stores, and a loader batches.

Shape letters of the whole package: N rows, F id fields, M numbers, T steps, B rows of a batch, E embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

UNOBSERVED = 255
"""The label of a step that was not observed in a row; left out of loss and metric."""


@dataclass(frozen=True)
class Ragged:
    """Lists of ids: those of row i are `ids[offsets[i]:offsets[i + 1]]`."""

    offsets: NDArray[np.int64]  # (N + 1,), starts at 0
    ids: NDArray[np.int32]  # (total,)
    weights: NDArray[np.float32] | None = None  # (total,)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, rows: NDArray[np.int64]) -> Ragged:
        """The lists of `rows` (n,), in that order."""
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        source = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Ragged(offsets, self.ids[source], None if self.weights is None else self.weights[source])

    @staticmethod
    def concatenate(parts: Sequence[Ragged]) -> Ragged:
        bases = np.cumsum([0] + [part.offsets[-1] for part in parts[:-1]])
        offsets = [part.offsets[1:] + base for part, base in zip(parts, bases, strict=True)]
        weights = [part.weights for part in parts if part.weights is not None]
        return Ragged(
            np.concatenate([np.zeros(1, np.int64), *offsets]),
            np.concatenate([part.ids for part in parts]),
            np.concatenate(weights) if weights else None,
        )


@dataclass(frozen=True)
class Columns:
    """N encoded rows. `labels` and `weight` are absent where rows are only to be scored."""

    ids: NDArray[np.int32]  # (N, F) row-major; id 0 is unknown or missing
    numeric: NDArray[np.float32]  # (N, M)
    ragged: dict[str, Ragged] = field(default_factory=dict)  # by feature
    labels: NDArray[np.uint8] | None = None  # (N, T): 0, 1 or UNOBSERVED
    weight: NDArray[np.float32] | None = None  # (N,)

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
        )
