"""Where integers stand among distinct ones, by a table of slots.

Open addressing: a slot holds a place, counted from 1, or 0 where it is empty; at least one is. As many slots as a power
of two.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from funnelcast.compiled import compiled

FREE: Final = 1.5
"""Slots for each value, or up to twice as many: with fewer one looks longer, with more they leave the cache."""


def slots_of(values: NDArray[np.int64]) -> NDArray[np.int32]:
    """The slots of distinct `values` (n,)."""
    slots = np.zeros(1 << int(FREE * len(values)).bit_length(), np.int32)
    fill(values, slots)
    return slots


@compiled
def slot(value: Any, slots: Any) -> Any:
    """Where to begin to look for a value."""
    mixed = np.uint64(value)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((mixed ^ (mixed >> np.uint64(29))) & np.uint64(len(slots) - 1))


@compiled
def seek(value: Any, slots: Any, values: Any) -> Any:
    """The slot that holds the value's place in `values`, or the empty one where it belongs."""
    at = slot(value, slots)
    while slots[at] != 0 and values[slots[at] - 1] != value:
        at = (at + 1) & (len(slots) - 1)
    return at


@compiled
def fill(values: Any, slots: Any) -> None:
    """The indices of distinct values, into empty slots."""
    for i in range(len(values)):
        at = slot(values[i], slots)
        while slots[at] != 0:
            at = (at + 1) & (len(slots) - 1)
        slots[at] = i + 1


@compiled
def look_up(wanted: Any, slots: Any, values: Any, found: Any) -> None:
    """Writes into found (n,) the indices of wanted (n,) in `values`, counted from 1; 0 where a number is not there."""
    for i in range(len(wanted)):
        found[i] = slots[seek(wanted[i], slots, values)]
