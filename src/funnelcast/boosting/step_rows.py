"""The rows of a part that count for one step, as LightGBM reads them: never all of their matrix at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from funnelcast.boosting.id_rates import IdRates
from funnelcast.boosting.matrix import Matrix
from funnelcast.data.batch import Batch
from funnelcast.training.statistics import step_rows


@dataclass(frozen=True)
class Part:
    """Rows of a part, their weights, and what makes a matrix of them."""

    rows: Batch  # N, memory-mapped
    used: NDArray[np.int64]  # (n,)
    weight: NDArray[np.float32] | None  # (N,)
    matrix: Matrix
    statistics: IdRates
    folds: NDArray[np.uint8] | None = None  # (N,)

    def of_step(self, step: int, given: tuple[int, ...]) -> StepRows:
        """The used rows that count for a step; `given` as for `step_rows`."""
        assert self.rows.labels is not None
        counted = step_rows(self.rows.labels.numpy()[self.used], given)[:, step]
        return StepRows(self, step, self.used[counted])


@dataclass(frozen=True)
class StepRows:
    """Rows of a part for one step: by number or by slice, as `lightgbm.Sequence` wants them."""

    part: Part
    step: int
    chosen: NDArray[np.int64]  # (n,)
    _last: dict[int, NDArray[np.float64]] = field(default_factory=dict, repr=False)

    batch_size = 4096
    """Rows of a chunk, by the name that LightGBM asks for."""

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int | slice) -> NDArray[np.float64]:
        """(columns,), or (n, columns) of a slice."""
        if isinstance(index, slice):
            return self._matrix(self.chosen[index])
        chunk, place = divmod(int(index), self.batch_size)
        if chunk not in self._last:  # LightGBM draws a sample row by row, in ascending order
            self._last.clear()
            self._last[chunk] = self._matrix(self.chosen[chunk * self.batch_size :][: self.batch_size])
        return np.asarray(self._last[chunk][place])

    def _matrix(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        folds = None if self.part.folds is None else self.part.folds[rows]
        return self.part.matrix(self.part.rows.take(torch.from_numpy(rows)), self.part.statistics, folds)

    @cached_property
    def labels(self) -> NDArray[np.uint8]:
        """(n,), 0 or 1."""
        assert self.part.rows.labels is not None
        return np.asarray(self.part.rows.labels.numpy()[self.chosen, self.step])

    @cached_property
    def weight(self) -> NDArray[np.float32] | None:
        """(n,), or none for 1 each."""
        return None if self.part.weight is None else self.part.weight[self.chosen]

    @property
    def counts(self) -> tuple[int, int]:
        """Rows that reached the step, and others."""
        reached = int(self.labels.sum(dtype=np.int64))
        return reached, len(self) - reached
