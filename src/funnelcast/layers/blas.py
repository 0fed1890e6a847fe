"""Matrix products from compiled loops: torch's own BLAS, called by address.

Numba's own product needs scipy and allocates its result. Torch's Linux wheels export, in Fortran's form, the `sgemm`
that torch itself multiplies with; it keeps to torch's number of threads.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

from funnelcast.compiled import compiled_for_speed

FLOAT: Final = 4  # bytes
PLAIN: Final = ord("N")
TURNED: Final = ord("T")


@cache
def sgemm_address() -> int:
    """Where this process has sgemm; 0 where torch does not export it."""
    for path in (Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"):
        function = getattr(ctypes.CDLL(str(path)), "sgemm_", None)
        if function is not None:
            return ctypes.cast(function, ctypes.c_void_p).value or 0
    return 0


def _to_pointer(typing: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], cgutils.voidptr_t)

    return types.voidptr(address), code


def _to_sgemm(
    typing: Any, at: Any, ta: Any, tb: Any, m: Any, n: Any, k: Any, alpha: Any, a: Any, lda: Any, b: Any, ldb: Any,
    beta: Any, c: Any, ldc: Any,
) -> Any:  # fmt: skip
    """C = α A B + β C, all by pointer. Integers lie in 64 bits, which a BLAS of 32 bits reads the same."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        void = cgutils.voidptr_t
        slots = [v if v.type == void else cgutils.alloca_once_value(builder, v) for v in values[1:]]
        pointers = [builder.bitcast(slot, void) for slot in slots]
        function = cgutils.ir.FunctionType(cgutils.ir.VoidType(), [void] * len(pointers))
        builder.call(builder.inttoptr(values[0], function.as_pointer()), pointers)
        return context.get_dummy_value()

    return types.void(at, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc), code


_pointer = intrinsic(_to_pointer)
_sgemm = intrinsic(_to_sgemm)


@compiled_for_speed
def matrix(address: int, rows: int, columns: int) -> Any:
    """The float32 matrix (rows, columns), row-major, at an address."""
    return carray(_pointer(address), (rows, columns), np.float32)


@compiled_for_speed
def shorts(address: int, rows: int, columns: int) -> Any:
    """The int16 matrix (rows, columns), row-major, at an address."""
    return carray(_pointer(address), (rows, columns), np.int16)


@compiled_for_speed
def multiply(sgemm: int, x: int, w: int, y: int, rows: int, k: int, columns: int, keep: float) -> None:
    """y = x w + keep · y, of row-major x (rows, k), w (k, columns) and y (rows, columns) at their addresses."""
    one, kept = np.float32(1), np.float32(keep)
    a = _pointer(w)
    b = _pointer(x)
    c = _pointer(y)
    _sgemm(sgemm, PLAIN, PLAIN, columns, rows, k, one, a, columns, b, k, kept, c, columns)


@compiled_for_speed
def multiply_turned(sgemm: int, x: int, g: int, w: int, rows: int, k: int, columns: int) -> None:
    """w = xᵀ g, with x (k, rows), g (k, columns) and w (rows, columns)."""
    one, zero = np.float32(1), np.float32(0)
    a = _pointer(g)
    b = _pointer(x)
    c = _pointer(w)
    _sgemm(sgemm, PLAIN, TURNED, columns, rows, k, one, a, columns, b, rows, zero, c, columns)


@compiled_for_speed
def multiply_by_turned(sgemm: int, g: int, w: int, x: int, rows: int, k: int, columns: int, keep: float) -> None:
    """x = g wᵀ + keep · x, with g (rows, k), w (columns, k) and x (rows, columns)."""
    one, kept = np.float32(1), np.float32(keep)
    a = _pointer(w)
    b = _pointer(g)
    c = _pointer(x)
    _sgemm(sgemm, TURNED, PLAIN, columns, rows, k, one, a, k, b, k, kept, c, columns)
