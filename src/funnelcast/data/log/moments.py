"""Mean and deviation of numbers that are read batch by batch, from sums that are exact: no order of rows or size of
batches changes the last bit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from funnelcast.compiled import compiled
from funnelcast.data.numeric import Standard
from funnelcast.errors import DataError

_UNIT = 1075  # a float64 is a whole number of 2^-1075, its square one of 2^-2150
_WORDS = 2048 // 32 + 5


class Moments:
    """Count, sum and sum of squares of finite numbers."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0  # of 2^-1075
        self._squares = 0  # of 2^-2150

    def add(self, values: NDArray[np.float64], rows: NDArray[np.bool_]) -> None:
        """Add the values (N,) of the chosen rows (N,) that are finite."""
        sums, squares = np.zeros(_WORDS, np.int64), np.zeros(2 * _WORDS, np.int64)
        self.count += add_exactly(np.ascontiguousarray(values), rows, sums, squares)
        self._sum += _whole(sums)
        self._squares += _whole(squares)

    def standard(self) -> Standard:
        """0 and 1 for no values, deviation 1 where they are constant. Raises DataError where they are too large."""
        n = self.count
        if not n:
            return Standard(mean=0, std=1)
        mean = self._sum / (n << _UNIT)
        try:
            deviation = math.sqrt((n * self._squares - self._sum**2) / (n**2 << 2 * _UNIT))
        except OverflowError:
            raise DataError(
                "its values are too large to standardise; use transform = 'bins', or mend the column"
            ) from None
        return Standard(mean=mean, std=deviation if deviation > 1e-12 * abs(mean) else 1.0)


def _whole(words: NDArray[np.int64]) -> int:
    return sum(int(words[i]) << 32 * int(i) for i in np.flatnonzero(words))


@compiled
def add_exactly(values: Any, rows: Any, sums: Any, squares: Any) -> int:
    """Add finite float64 values, where `rows`, to words of which each counts 2^32 of the one before; returns how many.

    At most 2^31 at once, so that no word overflows.
    """
    bits = values.view(np.uint64)
    half = np.uint64(2**27 - 1)
    count = 0
    for i in range(len(values)):
        exponent = (bits[i] >> np.uint64(52)) & np.uint64(2047)
        if not rows[i] or exponent == 2047:
            continue
        count += 1
        digits = bits[i] & np.uint64(2**52 - 1)
        if exponent:
            digits |= np.uint64(2**52)
        elif digits:
            exponent = np.uint64(1)
        else:
            continue
        _add(sums, exponent, np.uint64(0), digits, 1 - 2 * np.int64(bits[i] >> np.uint64(63)))
        upper, lower = digits >> np.uint64(27), digits & half
        middle = np.uint64(2) * upper * lower + ((lower * lower) >> np.uint64(27))
        high = (upper * upper + (middle >> np.uint64(27))) >> np.uint64(10)
        _add(squares, np.uint64(2) * exponent, high, digits * digits, 1)
    return count


@compiled
def _add(words: Any, place: Any, high: Any, low: Any, sign: Any) -> None:
    """Add sign * (high * 2^64 + low) * 2^place; `high` is below 2^63."""
    word, shift = place >> np.uint64(5), place & np.uint64(31)
    rest, mask = np.uint64(32) - shift, np.uint64(2**32 - 1)
    over = ((low >> np.uint64(32)) >> rest) | (high << shift)
    low <<= shift
    words[word] += sign * np.int64(low & mask)
    words[word + 1] += sign * np.int64(low >> np.uint64(32))
    words[word + 2] += sign * np.int64(over & mask)
    words[word + 3] += sign * np.int64(over >> np.uint64(32))
    words[word + 4] += sign * np.int64((high >> np.uint64(32)) >> rest)
