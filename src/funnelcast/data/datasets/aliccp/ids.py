"""Provisional ids of raw integers: hash tables that grow with the distinct values.

Codes: MISSING (-1) no value, 0 a value that no training row may hold, 1 … in order of first sight.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from funnelcast.compiled import compiled
from funnelcast.data.columns import Ragged
from funnelcast.data.datasets.aliccp.tokens import MISSING
from funnelcast.data.slots import fill, look_up, seek

Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
Bools = NDArray[np.bool_]


class IdTable:
    """From int64 values to ids 1 … n: indices in `values`."""

    def __init__(self) -> None:
        self.size = 0
        self._slots = np.zeros(1024, np.int32)
        self._values = np.empty(512, np.int64)
        self._counts = np.zeros(512, np.int64)

    @property
    def values(self) -> Int64s:
        """(n,) by id - 1."""
        return self._values[: self.size]

    @property
    def counts(self) -> Int64s:
        """(n,) how often `count` was told of each."""
        return self._grown_counts()[: self.size]

    def intern(self, values: Int64s, present: Bools) -> Int32s:
        """Codes (n,) of values (n,); new ones get the next id."""
        codes = np.empty(len(values), np.int32)
        row = 0
        while row < len(values):
            row, self.size = _intern(values, present, self._slots, self._values, self.size, codes, row)
            if row < len(values):
                self._grow()
        return codes

    def look_up(self, values: Int64s, present: Bools) -> Int32s:
        """Codes (n,) of values (n,); 0 for those never interned."""
        codes = np.empty(len(values), np.int32)
        look_up(values, self._slots, self._values, codes)
        codes[~present] = MISSING
        return codes

    def count(self, codes: Int32s) -> None:
        _count(codes, self._grown_counts())

    def count_lists(self, lists: Ragged, times: Int64s) -> None:
        """Count the codes of every list `times` (n,)."""
        _count_lists(lists.offsets, lists.ids, times, self._grown_counts())

    def _grown_counts(self) -> Int64s:
        """Counts of at least all values so far: grown by who counts, as a thread may intern others meanwhile."""
        if len(self._counts) < self.size:
            more = np.zeros(max(self.size - len(self._counts), len(self._counts)), np.int64)
            self._counts = np.concatenate([self._counts, more])
        return self._counts

    def _grow(self) -> None:
        self._values = np.concatenate([self._values, np.empty_like(self._values)])
        self._slots = np.zeros(2 * len(self._slots), np.int32)
        fill(self.values, self._slots)


@compiled
def _intern(
    column: Int64s, present: Bools, slots: Int32s, values: Int64s, size: int, codes: Int32s, row: int
) -> tuple[int, int]:
    """From `row` on, until the end or a full table; (next row, size)."""
    for i in range(row, len(column)):
        if not present[i]:
            codes[i] = MISSING
            continue
        at = seek(column[i], slots, values)
        if slots[at] == 0:
            if size == len(values):
                return i, size
            values[size] = column[i]
            size += 1
            slots[at] = size
        codes[i] = slots[at]
    return len(column), size


@compiled
def _count(codes: Int32s, counts: Int64s) -> None:
    for code in codes:
        if code > 0:
            counts[code - 1] += 1


@compiled
def _count_lists(offsets: Int64s, codes: Int32s, times: Int64s, counts: Int64s) -> None:
    for i in range(len(times)):
        for code in codes[offsets[i] : offsets[i + 1]]:
            if code > 0:
                counts[code - 1] += times[i]
