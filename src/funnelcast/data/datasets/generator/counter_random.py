"""Chance that is counted, not streamed: a number depends on a key and a position alone (SplitMix64)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from funnelcast.compiled import compiled

Keys = NDArray[np.uint64]

_STEP, _FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S11, _S27, _S30, _S31 = (np.uint64(shift) for shift in (11, 27, 30, 31))


@compiled
def hash_of(key: np.uint64, place: int) -> np.uint64:
    """64 random bits; different places of one key never share them."""
    x = key + np.uint64(place + 1) * _STEP
    x = (x ^ (x >> _S30)) * _FIRST
    x = (x ^ (x >> _S27)) * _SECOND
    return x ^ (x >> _S31)


@compiled
def uniform(state: Keys) -> float:
    """The next number in [0, 1) of the sequence that `state` (1,) counts."""
    state[0] += _STEP
    return (hash_of(state[0], 0) >> _S11) * 2.0**-53


@compiled
def zipf(state: Keys, count: int, tail: float) -> int:
    """A rank below `count`; low ranks are likely."""
    return int(count * uniform(state) ** tail)


@compiled
def keys_of(key: np.uint64, first: int, count: int) -> Keys:
    """Keys of the places first, first + 1, …; all different."""
    keys = np.empty(count, np.uint64)
    for i in range(count):
        keys[i] = hash_of(key, first + i)
    return keys
