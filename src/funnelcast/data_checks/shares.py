"""Shares, and how far chance moves them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from funnelcast.data_checks.sample import Sample

Z = 1.96


class Share(NamedTuple):
    """A share with its standard error."""

    value: float
    error: float

    @property
    def low(self) -> float:
        return max(0.0, self.value - Z * self.error)

    @property
    def high(self) -> float:
        return min(1.0, self.value + Z * self.error)


def by_stretches(sample: Sample, hits: NDArray[np.bool_], among: NDArray[np.bool_]) -> Share:
    """The share, by weight, of rows `among` (n,) that are `hits` (n,), and what stretches of the rows say of its error.

    The ratio estimate over stretches (Cochran 1977, 6.4), at least that of independent rows.
    """
    count = sample.stretches
    weight = sample.weight * among
    total = np.bincount(sample.stretch, weight, count)
    reached = np.bincount(sample.stretch, weight * hits, count)
    share = float(reached.sum() / total.sum())
    spread = float(np.sum((reached - share * total) ** 2)) * count / max(1, count - 1)
    alone = share * (1 - share) * float(weight @ weight)
    return Share(share, math.sqrt(max(spread, alone)) / float(total.sum()))
