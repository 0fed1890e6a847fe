"""Flush to zero: threads that compute take numbers too small for full precision, and results that are, as 0.

A processor may take a hundred times as long for such a subnormal number, in float32 one below 1.2e-38. Weights, moments
and gradients become so small where `l2` shrinks what has nothing else to learn.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

_SUBNORMAL: Final = 5e-324


def is_flushing() -> bool:
    """Return whether this thread takes subnormal numbers as 0: one is equal to 0 where the processor reads it so."""
    return _SUBNORMAL == 0.0


@contextmanager
def flush_to_zero() -> Iterator[None]:
    """Flush to zero in this thread, and restore what was before at the end of the block; also as a decorator.

    It takes two microseconds and may be nested. PyTorch sets both bits of a processor at once, that for operands (DAZ)
    and that for results (FTZ), so that a caller who had set only the second has neither afterwards. Where a processor
    can do neither, nothing changes.

    The state is a thread's own. Threads that are made within the block inherit it, OpenMP's for PyTorch's operations
    too, but not those that a caller's earlier operations have made. Training and scoring do not depend on that: they
    set one math thread, and their own threads flush for as long as they live (`threads.py`). Elsewhere, as in adapting
    on several math threads, such an old thread may be slow with a subnormal number, and keep it.
    """
    before = is_flushing()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        if not before:
            torch.set_flush_denormal(False)
