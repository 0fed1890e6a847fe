"""Memory lent to one pass at a time: fresh memory costs a page fault per 4 KB, more than a pass over it."""

from __future__ import annotations

import ctypes
import math
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import accumulate
from typing import Final

import torch
from torch import Tensor

from funnelcast.layers.large_pages import on_large_pages
from funnelcast.layers.tiles import FLOAT

ALIGNED: Final = 16
"""Numbers to whose multiples a space is aligned, as torch's are."""

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # of mallopt in glibc

Shelves = dict[int, list[Tensor]]
"""Memory that nobody has, by the logarithm of its size."""
_all: Shelves = {}
_thread = threading.local()


@contextmanager
def shelves(own: Shelves) -> Iterator[None]:
    """What this thread leases meanwhile comes from there first, and returns there."""
    _thread.shelves = own
    try:
        yield
    finally:
        _thread.shelves = _all


class Lease:
    """Float32 numbers, uninitialised, nobody else's while this object lives; aligned as torch aligns."""

    def __init__(self, numbers: int) -> None:
        size = max(numbers, 1).bit_length()
        self._shelf = getattr(_thread, "shelves", _all).setdefault(size, [])
        self.memory = _memory(size, self._shelf, _all.setdefault(size, []))

    def __del__(self) -> None:
        self._shelf.append(self.memory)

    def places(self, sizes: Sequence[int]) -> list[int]:
        """Addresses of spaces for so many numbers, one after the other in it."""
        first = self.memory.data_ptr()
        return [first + start * FLOAT for start in _starts(sizes)]

    def parts(self, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
        """Tensors of these shapes, one after the other in it, that must not outlive it."""
        sizes = [math.prod(shape) for shape in shapes]
        places = zip(_starts(sizes), sizes, shapes, strict=True)
        return [self.memory[start : start + size].view(shape) for start, size, shape in places]


def _memory(size: int, *shelves: list[Tensor]) -> Tensor:
    for shelf in shelves:
        try:
            return shelf.pop()
        except IndexError:
            continue
    with torch.inference_mode(mode=False):  # a later pass may be one that is differentiated
        return on_large_pages(torch.empty(2**size))


def _starts(sizes: Sequence[int]) -> list[int]:
    ends = list(accumulate(-(-size // ALIGNED) * ALIGNED for size in sizes))
    return [0, *ends[:-1]] if ends else []


def lease_for(sizes: Sequence[int]) -> Lease:
    """Room for so many numbers each, and for `ALIGNED` more."""
    return Lease(sum(sizes) + ALIGNED * (len(sizes) + 1))


def lend(shapes: Sequence[tuple[int, ...]]) -> tuple[Lease, list[Tensor]]:
    """Tensors of these shapes, and what they must not outlive."""
    lease = lease_for([math.prod(shape) for shape in shapes])
    return lease, lease.parts(shapes)


@cache
def keep_freed_memory() -> None:
    """Let this process keep what it frees, up to 32 MB apiece, for its next passes; where the C library is glibc.

    Otherwise what autograd makes in each pass goes back to the system and comes again page by page: 4 ms in 120 of a
    batch of MAN.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, 32 << 20)
        mallopt(TRIM_THRESHOLD, (1 << 31) - 1)
