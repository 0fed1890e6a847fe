"""Memory that is borrowed from a pool: fresh memory costs a page fault per 4 KB, more than a pass over it."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import accumulate
from typing import Any, Final

import torch
from torch import Tensor

from funnelcast.kernels.cpu.codegen import FLOAT

ALIGNED: Final = 16
"""Elements to whose multiples a buffer is aligned, as torch's are."""
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # of mallopt in glibc

Pool = dict[int, list[Tensor]]
"""Memory that nobody has, by the logarithm of its size."""
_shared: Pool = {}
_thread = threading.local()


@contextmanager
def pool(own: Pool) -> Iterator[None]:
    """What this thread borrows meanwhile comes from `own` first, and returns there."""
    _thread.pool = own
    try:
        yield
    finally:
        _thread.pool = _shared


class Buffer:
    """Uninitialised float32 memory, nobody else's while this object lives."""

    def __init__(self, sizes: Sequence[int]) -> None:
        """`sizes`: elements of each of its parts, one after the other; `ALIGNED` more can be read after the last."""
        ends = list(accumulate(-(-size // ALIGNED) * ALIGNED for size in sizes))
        size = (ends[-1] + ALIGNED if ends else 1).bit_length()
        self._pool = getattr(_thread, "pool", _shared).setdefault(size, [])
        self._memory = _take(size, self._pool, _shared.setdefault(size, []))
        first = self._memory.data_ptr()
        self.addresses = [first + start * FLOAT for start in [0, *ends[:-1]][: len(sizes)]]

    def __del__(self) -> None:
        self._pool.append(self._memory)


def _take(size: int, *pools: list[Tensor]) -> Tensor:
    for pool in pools:
        try:
            return pool.pop()
        except IndexError:
            continue
    with torch.inference_mode(mode=False):  # a later pass may be one that is differentiated
        return torch.empty(2**size)


@cache
def keep_freed_memory() -> None:
    """Let this process keep what it frees, up to 32 MB apiece, for its next passes; where the C library is glibc.

    Otherwise what autograd makes in each pass goes back to the system and comes again page by page.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, 32 << 20)
        mallopt(TRIM_THRESHOLD, (1 << 31) - 1)


def address(tensor: Tensor | None) -> int:
    """Where its elements begin; 0 for none."""
    return 0 if tensor is None else tensor.data_ptr()


def are_float32(*tensors: Tensor) -> bool:
    """Whether tensors have the elements that kernels read by address."""
    return all(tensor.dtype == torch.float32 for tensor in tensors)


def arrays(*tensors: Tensor) -> list[Any]:
    """Their elements as numpy arrays, for kernels."""
    return [tensor.detach().numpy() for tensor in tensors]
