"""Which rows of a public funnel are its test part: (N,) masks, the same for one seed on every machine."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SHARE = 5
"""One row in so many is test."""
Mask = NDArray[np.bool_]


def random_fifth(groups: NDArray[np.int64], seed: int) -> Mask:
    """The rows of a random fifth of the groups; `groups` (N,): the number of each row's, from 0."""
    count = int(groups.max()) + 1
    is_test = np.zeros(count, np.bool_)
    is_test[np.random.default_rng(seed).permutation(count)[: count // SHARE]] = True
    return is_test[groups]


def newest_fifth(times: pd.Series) -> Mask:
    """The newest rows, at least a fifth; those of one time stay together."""
    ordered = times.sort_values(ignore_index=True)
    mask: Mask = (times >= ordered[int(len(times) * (1 - 1 / SHARE))]).to_numpy()
    return mask
