"""What stands between two places of raw bytes, inside compiled loops."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from funnelcast.compiled import compiled

Bytes = NDArray[np.uint8]


@compiled
def count_byte(data: Bytes, start: int, end: int, byte: int) -> int:
    """How often the byte stands there."""
    count = 0
    for at in range(start, end):
        count += data[at] == byte
    return count


@compiled
def read_digits(data: Bytes, start: int, end: int) -> int:
    """The number of at most 18 digits that stands there, -1 where none does."""
    number = 0
    for at in range(start, end):
        if not 48 <= data[at] <= 57:
            return -1
        number = number * 10 + (data[at] - 48)
    return number if 0 < end - start <= 18 else -1


@compiled
def is_label(data: Bytes, start: int, end: int) -> bool:
    """Whether 0 or 1 stands there, and nothing else."""
    return end - start == 1 and 48 <= data[start] <= 49
