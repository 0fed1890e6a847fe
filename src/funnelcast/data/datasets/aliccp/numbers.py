"""Numbers as text to floats, inside compiled loops."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from funnelcast.compiled import compiled

_MINUS, _PLUS, _POINT, _E, _SMALL_E = list(b"-+.Ee")
_ROOM = 10**17  # below it an int64 has room for one more digit
_POWERS = np.array([float(f"1e{power}") for power in range(23)])  # those that are exact
_LARGEST_EXPONENT = 9999  # far beyond every float


@compiled
def read_float(data: NDArray[np.uint8], start: int, end: int) -> float:
    """The number that data[start:end] says, as Python's `float` reads it, NaN where it says none.

    Exact where it has at most 15 digits and a power of ten within ±22, else to one part in 10^15.
    """
    at = start + (start < end and (data[start] == _MINUS or data[start] == _PLUS))
    digits, power, count, point = np.int64(0), 0, 0, False
    while at < end:
        if data[at] == _POINT and not point:
            point = True
        elif 48 <= data[at] <= 57:
            has_room, count = digits < _ROOM, count + 1
            digits = digits * 10 + (data[at] - 48) if has_room else digits
            power += int(not has_room) - int(point)
        else:
            break
        at += 1
    if at < end and (data[at] == _E or data[at] == _SMALL_E) and count:
        at, exponent = _exponent(data, at + 1, end)
        power += exponent
    if at != end or not count:
        return np.nan
    number = _scaled(float(digits), power)
    return -number if data[start] == _MINUS else number


@compiled
def _exponent(data: NDArray[np.uint8], start: int, end: int) -> tuple[int, int]:
    """Where a whole number with a sign ends, and what it is; before `end` where there is none."""
    at = start + (start < end and (data[start] == _MINUS or data[start] == _PLUS))
    number = 0
    if at == end:
        return start - 1, 0
    while at < end and 48 <= data[at] <= 57:
        number = min(number * 10 + (data[at] - 48), _LARGEST_EXPONENT)
        at += 1
    return at, -number if data[start] == _MINUS else number


@compiled
def _scaled(digits: float, power: int) -> float:
    """digits * 10^power, rounded once where the power of ten is exact."""
    if digits == 0:
        return 0.0
    if abs(power) < len(_POWERS):
        return float(digits / _POWERS[-power] if power < 0 else digits * _POWERS[power])
    return digits * 10.0**power
