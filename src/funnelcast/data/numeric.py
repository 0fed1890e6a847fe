"""Fitted transforms of numbers: standardising, for networks with bin edges too, and binning by training quantiles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from funnelcast.schema.config import Config

LARGEST = float(np.finfo(np.float32).max)
"""The largest number that a table holds."""


class Standard(Config):
    """(x - mean) / std; missing becomes 0, the mean."""

    mean: float
    """Of the training values."""
    std: float
    """1 where the training values are constant."""

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """(N,), missing where they are not finite -> (N,)."""
        scaled = (values - self.mean) / self.std
        scaled[~np.isfinite(values)] = 0
        return scaled.clip(-LARGEST, LARGEST, out=scaled).astype(np.float32)


class Piecewise(Standard):
    """Standardised, with the edges of the bins by which a network shall read it."""

    edges: tuple[float, ...]
    """Distinct training values, ascending, from the least to the greatest."""

    @property
    def bin_edges(self) -> tuple[float, ...]:
        """The edges, standardised; those that float32 does not distinguish as one."""
        return tuple(np.unique(self(np.asarray(self.edges, np.float64))).tolist())


class Bins(Config):
    """1 + the number of edges at or below x; missing becomes 0."""

    edges: tuple[float, ...]
    """Distinct training quantiles, ascending."""

    def __len__(self) -> int:
        """Number of ids including 0."""
        return len(self.edges) + 2

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.int32]:
        """(N,), missing where they are not finite -> ids (N,)."""
        ids = 1 + np.searchsorted(np.asarray(self.edges), values, side="right")
        return np.where(np.isfinite(values), ids, 0).astype(np.int32)
