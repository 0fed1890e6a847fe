"""Products of bfloat16 by Intel's AMX: tiles of 16 rows by 16 columns, to which 32 products each are added at once.

A processor that has it takes no less time for AVX-512's products of bfloat16 than for those of float32. The system has
to permit it to a process, as its registers are large.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from funnelcast.compiled import compiled_for_speed
from funnelcast.kernels.cpu.codegen import FLOAT, HAS

HAS_AMX: Final = "+amx-bf16" in HAS and "+avx512bf16" in HAS and sys.platform == "linux"
SIDE: Final = 16
"""Rows and columns of a tile, and the pairs of bfloat16 of its depth."""
SQUARE: Final = 2 * SIDE
"""Rows and columns of four tiles, whose sums are made together."""

_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18  # of Linux on x86-64

_BYTE, _SHORT, _LONG = ir.IntType(8), ir.IntType(16), ir.IntType(64)
_SUMS, _A, _B = range(4), (4, 5), (6, 7)
"""The eight registers of tiles: sums row by row, two tiles of A, two of B."""


def ask_permission() -> bool:
    """Ask the system for AMX's registers for all threads of this process, and return whether it gave them."""
    return HAS_AMX and ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0


def _emit(builder: Any, instruction: str, *values: Any) -> None:
    """Code of an instruction; none where there is no AMX, as it could not be compiled."""
    if HAS_AMX:
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{instruction}")
        builder.call(function, values)


def _pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, cgutils.voidptr_t)


def _configure(typing: Any, rows: Any, columns: Any) -> Any:
    """Tiles of so many rows of A and columns of B, both up to SIDE."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        rows, width = values[0], builder.mul(values[1], _LONG(FLOAT))
        kind = ir.ArrayType(_BYTE, 64)
        table = cgutils.alloca_once(builder, kind)
        builder.store(ir.Constant(kind, None), table)
        begin = builder.ptrtoint(table, _LONG)

        def put(at: int, number: Any, kind: Any) -> None:
            address = builder.inttoptr(builder.add(begin, _LONG(at)), kind.as_pointer())
            builder.store(builder.trunc(number, kind), address)

        put(0, _LONG(1), _BYTE)  # the one kind of table that there is
        for tile in (*_SUMS, *_A, *_B):
            put(16 + 2 * tile, _LONG(SIDE * FLOAT) if tile in _A else width, _SHORT)  # bytes of a row
            put(48 + tile, _LONG(SIDE) if tile in _B else rows, _BYTE)
        _emit(builder, "ldtilecfg", _pointer(builder, begin))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), code


def _release(typing: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _emit(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), code


def _square(
    typing: Any, a: Any, a_step: Any, b: Any, b_step: Any, c: Any, c_step: Any, row: Any, column: Any, depth: Any,
    beta: Any,
) -> Any:  # fmt: skip
    """Four tiles of C = A B + beta · C, of which the lower ones begin at a row and the right ones at a column. They may
    overlap, as all are loaded before one is stored. Bytes from a row to the next; the depth in pairs."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        a, a_step, b, b_step, c, c_step, row, column, depth, beta = values
        add, mul = builder.add, builder.mul
        right, lower = mul(column, _LONG(FLOAT)), add(a, mul(row, a_step))
        addresses = [add(start, to) for start in (c, add(c, mul(row, c_step))) for to in (_LONG(0), right)]

        def load(tile: int, address: Any, step: Any) -> None:
            _emit(builder, "tileloadd64", _BYTE(tile), _pointer(builder, address), step)

        with builder.if_else(builder.icmp_signed("!=", beta, _LONG(0))) as (kept, begun):
            with kept:
                for tile, address in zip(_SUMS, addresses, strict=True):
                    load(tile, address, c_step)
            with begun:
                for tile in _SUMS:
                    _emit(builder, "tilezero", _BYTE(tile))
        with cgutils.for_range(builder, builder.sdiv(depth, _LONG(SIDE))) as loop:
            of_a, of_b = mul(loop.index, _LONG(SIDE * FLOAT)), add(b, mul(loop.index, mul(b_step, _LONG(SIDE))))
            load(_A[0], add(a, of_a), a_step)
            load(_B[0], of_b, b_step)
            load(_A[1], add(lower, of_a), a_step)
            load(_B[1], add(of_b, right), b_step)
            for tile in _SUMS:
                _emit(builder, "tdpbf16ps", *map(_BYTE, (tile, _A[tile // 2], _B[tile % 2])))
        for tile, address in zip(_SUMS, addresses, strict=True):
            _emit(builder, "tilestored64", _BYTE(tile), _pointer(builder, address), c_step)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 10), code


_configure_tiles, _release_tiles, _fill_square = intrinsic(_configure), intrinsic(_release), intrinsic(_square)


@compiled_for_speed
def multiply_by_amx(
    a: int, a_step: int, b: int, b_panel: int, b_step: int, panel: int, c: int, c_step: int, rows: int, depth: int,
    columns: int, beta: int,
) -> None:  # fmt: skip
    """`multiply` of pairs of bfloat16, of a depth that is a multiple of SIDE; `panel`: columns of one."""
    tall = wide = 0
    for column in range(0, columns, SQUARE):
        width = min(SQUARE, columns - column)
        own = b + column // panel * b_panel + column % panel * FLOAT
        for row in range(0, rows, SQUARE):
            height = min(SQUARE, rows - row)
            if tall != min(SIDE, height) or wide != min(SIDE, width):
                tall, wide = min(SIDE, height), min(SIDE, width)
                _configure_tiles(tall, wide)
            to = c + row * c_step + column * FLOAT
            _fill_square(a + row * a_step, a_step, own, b_step, to, c_step, height - tall, width - wide, depth, beta)
    _release_tiles()
