"""How often values repeat in independent rows of one law, whatever the law is."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

HIGHEST = 8
MARGIN = 2.0


class Repeats(NamedTuple):
    """Rows that stand `times` times, more than independent rows would."""

    times: int
    values: int
    most: float
    """How many values independent rows would have so often, at most."""

    @property
    def excess(self) -> float:
        """Rows beyond."""
        return self.times * (self.values - self.most)


def excess_repeats(counts: NDArray[np.int64]) -> Repeats | None:
    """The gravest excess in the counts (V,) of V distinct values; none where there is none beyond chance.

    f_k values that stand k times each, of independent rows, are a mixture of Poisson laws, E f_k = ∫ e^-λ λ^k / k! dν,
    so by Cauchy and Schwarz (E f_k)² <= (k + 1) / k · E f_(k-1) · E f_(k+1). Copies break it: where every row stands
    twice, f_2 is large and f_1 and f_3 are 0.
    """
    f = np.bincount(np.minimum(counts, HIGHEST + 2), minlength=HIGHEST + 3).astype(np.float64)
    found = []
    for k in range(2, HIGHEST + 1):
        most = MARGIN * math.sqrt((k + 1) / k * _at_most(f[k - 1]) * _at_most(f[k + 1]))
        if f[k] - 3 * math.sqrt(f[k]) > most:
            found.append(Repeats(k, int(f[k]), most))
    return max(found, key=lambda each: each.excess, default=None)


def _at_most(count: float) -> float:
    """The mean of a Poisson law of which `count` was seen, at most."""
    return count + 3 * math.sqrt(count) + 5
