"""Float32 matrices packed as bfloat16 in the VNNI layout, pairs of neighbours: the operands of bfloat16 products.

A pair lies in a word of 32 bits, its first element in the lower 16: two neighbours of a row, or of a column. The second
element of the last pair is 0 where there is none.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from funnelcast.compiled import compiled
from funnelcast.kernels.cpu.codegen import FLOAT, LANES, ZEROS, bias_relu, broadcast, load_vector
from funnelcast.kernels.cpu.gemm import PANEL, pack, shorts, words
from funnelcast.kernels.cpu.outlined import outlined
from funnelcast.kernels.cpu.tiles import BF16, HAS_BF16

_SHORTS: Final = ir.VectorType(ir.IntType(16), LANES)
_WORDS: Final = ir.VectorType(ir.IntType(32), LANES)
SHORT: Final = 2  # bytes


def _each(number: int) -> Any:
    """A constant in every lane."""
    return ir.Constant(_WORDS, [number] * LANES)


_SHIFT: Final = _each(16)


def _rounded(builder: Any, vector: Any) -> Any:
    """A vector of bfloat16, as words of 16 bits."""
    if HAS_BF16:
        return builder.bitcast(builder.fptrunc(vector, ir.VectorType(BF16, LANES)), _SHORTS)
    bits = builder.bitcast(vector, _WORDS)  # without the instruction LLVM calls a function that there need not be
    odd = builder.and_(builder.lshr(bits, _SHIFT), _each(1))
    nearest = builder.add(bits, builder.add(odd, _each(0x7FFF)))
    is_nan = builder.fcmp_unordered("uno", vector, vector)
    kept = builder.select(is_nan, builder.or_(bits, _each(0x40 << 16)), nearest)
    return builder.trunc(builder.lshr(kept, _SHIFT), _SHORTS)


def _packed(builder: Any, first: Any, second: Any) -> Any:
    lower, upper = (builder.zext(_rounded(builder, vector), _WORDS) for vector in (first, second))
    return builder.or_(lower, builder.shl(upper, _SHIFT))


def _narrow(typing: Any, source: Any, target: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        narrow = _rounded(builder, load_vector(builder, values[0]))
        builder.store(narrow, builder.inttoptr(values[1], _SHORTS.as_pointer())).align = SHORT
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), code


def _pack(typing: Any, first: Any, second: Any, target: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        both = _packed(builder, *(load_vector(builder, value) for value in values[:2]))
        builder.store(both, builder.inttoptr(values[2], _WORDS.as_pointer())).align = FLOAT
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), code


def _relu(typing: Any, y: Any, bias: Any, slope: Any, target: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        y, bias, slope, target = values
        total = bias_relu(builder, load_vector(builder, y), load_vector(builder, bias), broadcast(builder, slope))
        builder.store(total, builder.inttoptr(y, ZEROS.type.as_pointer())).align = FLOAT
        builder.store(_rounded(builder, total), builder.inttoptr(target, _SHORTS.as_pointer())).align = SHORT
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32, types.int64), code


_narrow_vector, _pack_vectors, _relu_vector = intrinsic(_narrow), intrinsic(_pack), intrinsic(_relu)


@compiled
def vnni_words(count: int) -> int:
    """Words, each a pair, of so many elements."""
    return (count + 1) // 2


@outlined(4)
def vnni_by_columns(x: int, rows: int, columns: int, to: int) -> None:
    """Words (rows, pairs of columns) from a matrix (rows, columns)."""
    whole = columns // LANES * LANES
    width = 2 * vnni_words(columns)
    for r in range(rows):
        source, target = x + r * columns * FLOAT, to + r * width * SHORT
        for j in range(0, whole, LANES):
            _narrow_vector(source + j * FLOAT, target + j * SHORT)
        own, shorts_of_row = words(source, 1, columns), shorts(target, 1, width)
        for j in range(whole, columns):
            shorts_of_row[0, j] = rounded(own[0, j])
        for j in range(columns, width):
            shorts_of_row[0, j] = 0


@compiled
def is_whole(columns: int) -> Any:
    """Whether so many elements are whole vectors."""
    return columns % LANES == 0


@outlined(5, 1)
def relu_to_vnni(y: int, bias: int, rows: int, columns: int, to: int, slope: float) -> None:
    """In place, y + bias, times a slope where not above 0; and its words (rows, pairs of columns), which are whole."""
    for r in range(rows):
        for j in range(0, columns, LANES):
            at = r * columns + j
            _relu_vector(y + at * FLOAT, bias + j * FLOAT, slope, to + at * SHORT)


@outlined(4)
def vnni_by_rows(x: int, rows: int, columns: int, to: int) -> None:
    """Words (pairs of rows, columns) from a matrix (rows, columns)."""
    step = columns * FLOAT
    for i in range(vnni_words(rows)):
        _vnni_row(x + 2 * i * step, x + (2 * i + 1) * step, rows - 2 * i, columns, to + i * step)


@outlined(4)
def pack_vnni(w: int, depth: int, columns: int, panels: int) -> None:
    """`pack` of a matrix (depth, columns), in pairs along the depth."""
    step = columns * FLOAT
    for begin in range(0, columns, PANEL):
        wide = min(PANEL, columns - begin)
        for k in range(vnni_words(depth)):
            first = w + 2 * k * step + begin * FLOAT
            target = panels + (begin * vnni_words(depth) + k * PANEL) * FLOAT
            _vnni_row(first, first + step, depth - 2 * k, wide, target)
            rest = words(target, 1, PANEL)
            for j in range(wide, (wide + LANES - 1) // LANES * LANES):
                rest[0, j] = 0


@outlined(5)
def pack_vnni_transposed(w: int, depth: int, columns: int, panels: int, scratch: int) -> None:
    """`pack` of the transposed matrix, in pairs along its depth, which is `columns`; `scratch` for its words."""
    vnni_by_columns(w, depth, columns, scratch)
    pack(scratch, FLOAT, vnni_words(columns) * FLOAT, vnni_words(columns), depth, panels)


@compiled
def _vnni_row(first: int, second: int, rows: int, columns: int, to: int) -> None:
    """Words (columns,) of two rows, of which `rows` exist."""
    whole = columns // LANES * LANES if rows > 1 else 0
    for j in range(0, whole, LANES):
        _pack_vectors(first + j * FLOAT, second + j * FLOAT, to + j * FLOAT)
    own, out = words(first, 1, columns), words(to, 1, columns)
    for j in range(whole, columns):
        out[0, j] = rounded(own[0, j]) if rows > 0 else 0
    if rows > 1:
        other = words(second, 1, columns)
        for j in range(whole, columns):
            out[0, j] |= rounded(other[0, j]) << 16


@compiled
def rounded(bits: int) -> Any:
    """The bits of bfloat16 from those of float32, to the nearest, ties to even."""
    whole = np.int64(bits)
    if whole & 0x7FFFFFFF > 0x7F800000:  # nan must not round to infinity
        return (whole >> 16) | 0x40
    return (whole + 0x7FFF + ((whole >> 16) & 1)) >> 16
