"""Tells the system which rows of memory-mapped columns are read next, and which no more.

A window of shuffled rows is read at random. Left alone, the system reads what lies around each of them (8 MB with some
disks), keeps pages of windows that are done, as they were in use, and gives up those of the next one: in less memory
than the file has, an epoch then waits for the disk all the time.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.columns import Columns

COLD = 20
"""Linux's MADV_COLD: pages that are the first to go where memory is short."""

Stretch = tuple[int, int]
"""Rows from the first to before the second."""


@contextmanager
def needed(columns: Columns, stretches: Sequence[Stretch]) -> Iterator[None]:
    """Reads the rows of `stretches` ahead, block by block, and marks them as done with in the end.

    Advice alone: values are the same without. It does nothing for columns in memory, lists that rows share, and systems
    that do not take it.
    """
    if not hasattr(mmap.mmap, "madvise"):  # Windows
        yield
        return
    _advise(columns, stretches, mmap.MADV_WILLNEED)
    try:
        yield
    finally:
        if sys.platform == "linux":
            _advise(columns, stretches, COLD)


def _advise(columns: Columns, stretches: Sequence[Stretch], advice: int) -> None:
    for first, stop in stretches:
        for array, begin, end in _spans(columns, first, stop):
            file = array.base
            if isinstance(array, np.memmap) and isinstance(file, mmap.mmap) and end > begin:
                start = begin * array.itemsize // mmap.PAGESIZE * mmap.PAGESIZE
                with suppress(OSError):  # a system without this advice
                    file.madvise(advice, start, end * array.itemsize - start)


def _spans(columns: Columns, first: int, stop: int) -> Iterator[tuple[NDArray[np.generic], int, int]]:
    """Arrays, and which of their numbers hold the rows `first` to before `stop`."""
    for array in (columns.ids, columns.numeric, columns.labels, columns.weight):
        if array is not None:
            width = array.size // max(len(columns), 1)
            yield array, first * width, stop * width
    for ragged in columns.ragged.values():
        if ragged.index is not None:
            yield ragged.index, first, stop
            continue
        yield ragged.offsets, first, stop + 1
        begin, end = (int(at) for at in ragged.offsets[[first, stop]])
        for values in (ragged.ids, ragged.weights):
            if values is not None:
                yield values, begin, end
