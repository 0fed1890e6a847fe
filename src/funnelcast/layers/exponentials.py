"""Exponentials of many numbers at once: a call for each, as compilers make of math.exp, takes ten times as long.

With k the whole number next to x / log 2, e^x = 2^k e^r; r lies within ± log 2 / 2, where a Taylor polynomial of degree
7 is off by 6e-9.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from funnelcast.compiled import compiled

LEAST: Final = np.float32(-87)
"""Below it, 0."""
_TURN: Final = np.float32(1 / math.log(2))
_LOG_2: Final = np.float32(round(math.log(2) * 512) / 512)
"""Few digits, so that k times it is exact."""
_REST: Final = np.float32(math.log(2) - round(math.log(2) * 512) / 512)
_HALF: Final = np.float32(0.5)
_2, _3, _4, _5, _6, _7 = (np.float32(1 / math.factorial(n)) for n in range(2, 8))
_ONE: Final = np.float32(1)


def _to_power_of_two(typing: Any, k: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        number = ir.IntType(32)
        bits = builder.shl(builder.add(values[0], number(127)), number(23))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(types.int32), code


_power_of_two = intrinsic(_to_power_of_two)


@compiled
def exponentiate(numbers: Any) -> None:
    """In place, e^x of float32 x (n,) that are at most 0, to one unit in the last place; nan stays."""
    for i in range(len(numbers)):
        x = numbers[i]
        near = x if x >= LEAST else LEAST
        k = np.floor(near * _TURN + _HALF)
        r = near - k * _LOG_2 - k * _REST
        found = _ONE + r * (_ONE + r * (_2 + r * (_3 + r * (_4 + r * (_5 + r * (_6 + r * _7))))))
        found *= _power_of_two(np.int32(k))
        found = found if x >= LEAST else np.float32(0)
        numbers[i] = found if x == x else x
