"""Numbers, digits and counts of bytes in text, inside kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from funnelcast.compiled import compiled

_MINUS, _PLUS, _POINT, _E, _SMALL_E = list(b"-+.Ee")
_ONE_MORE_DIGIT = 10**17  # below it an int64 has room for one more digit
_POWERS = np.array([float(f"1e{power}") for power in range(23)])  # those that are exact
_LARGEST_EXPONENT = 9999  # far beyond every float


@compiled
def read_float(data: Bytes, start: int, end: int) -> float:
    """The number that data[start:end] says, as Python's `float` reads it, NaN where it says none.

    Exact where it has at most 15 digits and a power of ten within ±22, else to one part in 10^15, or to 1e-290.
    """
    first = start + int(_is_sign(data, start, end))
    at, number, power = first, 0, 0
    while at < end and 48 <= data[at] <= 57:
        if number < _ONE_MORE_DIGIT:
            number = number * 10 + (data[at] - 48)
        else:
            power += 1
        at += 1
    digits = at - first
    if at < end and data[at] == _POINT:
        at += 1
        digits -= at
        while at < end and 48 <= data[at] <= 57:
            if number < _ONE_MORE_DIGIT:
                number = number * 10 + (data[at] - 48)
                power -= 1
            at += 1
        digits += at
    if at < end and digits:
        at, exponent = _read_exponent(data, at, end)
        power += exponent
    if at != end or digits == 0:
        return np.nan
    return _scaled(-number if data[start] == _MINUS else number, power)


@compiled
def _is_sign(data: Bytes, at: int, end: int) -> bool:
    return at < end and (data[at] == _MINUS or data[at] == _PLUS)


@compiled
def _read_exponent(data: Bytes, start: int, end: int) -> tuple[int, int]:
    """Where the exponent that starts here ends, and what it is; `start` where there is none."""
    first = start + 1 + int(_is_sign(data, start + 1, end))
    at, exponent = first, 0
    while at < end and 48 <= data[at] <= 57:
        exponent = min(exponent * 10 + (data[at] - 48), _LARGEST_EXPONENT)
        at += 1
    if at == first or (data[start] != _E and data[start] != _SMALL_E):
        return start, 0
    return at, -exponent if data[start + 1] == _MINUS else exponent


@compiled
def _scaled(number: int, power: int) -> float:
    """Number * 10^power, rounded once where the power of ten is exact."""
    if -len(_POWERS) < power <= 0:
        return float(number / _POWERS[-power])
    return float(number * 10.0**power) if number else 0.0


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
