"""Float32 matrices as pairs of bfloat16, the operands of products with half the bits.

A pair lies in a word of 32 bits, its first number in the lower half: two neighbours of a row, or of a column. Where
there is no second number, it is 0.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from funnelcast.compiled import compiled
from funnelcast.layers.products import PANEL, pack, shorts, words
from funnelcast.layers.tiles import FLOAT, HALF, HAS_HALF, LANES, ZEROS, load_vector, spread

_SHORTS: Final = ir.VectorType(ir.IntType(16), LANES)
_WORDS: Final = ir.VectorType(ir.IntType(32), LANES)
SHORT: Final = 2  # bytes


def _each(number: int) -> Any:
    """It in every lane."""
    return ir.Constant(_WORDS, [number] * LANES)


_SHIFT: Final = _each(16)


def _rounded(builder: Any, vector: Any) -> Any:
    """A vector of bfloat16, as words of 16 bits."""
    if HAS_HALF:
        return builder.bitcast(builder.fptrunc(vector, ir.VectorType(HALF, LANES)), _SHORTS)
    bits = builder.bitcast(vector, _WORDS)  # without the instruction LLVM calls a function that there need not be
    odd = builder.and_(builder.lshr(bits, _SHIFT), _each(1))
    nearest = builder.add(bits, builder.add(odd, _each(0x7FFF)))
    is_none = builder.fcmp_unordered("uno", vector, vector)
    kept = builder.select(is_none, builder.or_(bits, _each(0x40 << 16)), nearest)
    return builder.trunc(builder.lshr(kept, _SHIFT), _SHORTS)


def _narrow(typing: Any, source: Any, target: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        narrow = _rounded(builder, load_vector(builder, values[0]))
        builder.store(narrow, builder.inttoptr(values[1], _SHORTS.as_pointer())).align = SHORT
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), code


def _pair(typing: Any, first: Any, second: Any, target: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        lower, upper = (builder.zext(_rounded(builder, load_vector(builder, v)), _WORDS) for v in values[:2])
        both = builder.or_(lower, builder.shl(upper, _SHIFT))
        builder.store(both, builder.inttoptr(values[2], _WORDS.as_pointer())).align = FLOAT
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), code


def _rectify(typing: Any, y: Any, bias: Any, floor: Any, target: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        y, bias, floor, target = values
        total = builder.fadd(load_vector(builder, y), load_vector(builder, bias))
        falls_away = builder.fcmp_ordered("<=", total, spread(builder, floor))
        total = builder.select(falls_away, ZEROS, total)
        builder.store(total, builder.inttoptr(y, ZEROS.type.as_pointer())).align = FLOAT
        builder.store(_rounded(builder, total), builder.inttoptr(target, _SHORTS.as_pointer())).align = SHORT
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32, types.int64), code


_narrow_vector, _pair_vectors, _rectify_vector = intrinsic(_narrow), intrinsic(_pair), intrinsic(_rectify)


@compiled
def pairs(number: int) -> int:
    """How many pairs that many numbers make."""
    return (number + 1) // 2


@compiled
def pair_columns(x: int, rows: int, columns: int, to: int) -> None:
    """Words (rows, pairs of columns) from a matrix (rows, columns)."""
    whole = columns // LANES * LANES
    width = 2 * pairs(columns)
    for r in range(rows):
        source, target = x + r * columns * FLOAT, to + r * width * SHORT
        for j in range(0, whole, LANES):
            _narrow_vector(source + j * FLOAT, target + j * SHORT)
        own, halves = words(source, 1, columns), shorts(target, 1, width)
        for j in range(whole, columns):
            halves[0, j] = rounded(own[0, j])
        if columns < width:
            halves[0, columns] = 0


@compiled
def rectify_and_pair(y: int, bias: int, floor: float, rows: int, columns: int, to: int) -> None:
    """In place, what remains of y + bias above a floor; and its words (rows, pairs of columns). `columns` is a multiple
    of LANES."""
    for r in range(rows):
        for j in range(0, columns, LANES):
            at = r * columns + j
            _rectify_vector(y + at * FLOAT, bias + j * FLOAT, floor, to + at * SHORT)


@compiled
def pair_rows(x: int, rows: int, columns: int, to: int) -> None:
    """Words (pairs of rows, columns) from a matrix (rows, columns)."""
    step = columns * FLOAT
    for i in range(pairs(rows)):
        _pair_row(x + 2 * i * step, x + (2 * i + 1) * step, 2 * i + 1 < rows, columns, to + i * step)


@compiled
def pack_pairs(w: int, depth: int, columns: int, panels: int) -> None:
    """`pack` of a matrix (depth, columns), paired along the depth."""
    step = columns * FLOAT
    for begin in range(0, columns, PANEL):
        wide = min(PANEL, columns - begin)
        for k in range(pairs(depth)):
            first = w + 2 * k * step + begin * FLOAT
            target = panels + (begin * pairs(depth) + k * PANEL) * FLOAT
            _pair_row(first, first + step, 2 * k + 1 < depth, wide, target)
            rest = words(target, 1, PANEL)
            for j in range(wide, PANEL):
                rest[0, j] = 0


@compiled
def pack_turned_pairs(w: int, depth: int, columns: int, panels: int, room: int) -> None:
    """The same of the turned matrix, paired along its depth, which is `columns`; `room` for its words."""
    pair_columns(w, depth, columns, room)
    pack(room, FLOAT, pairs(columns) * FLOAT, pairs(columns), depth, panels)


@compiled
def _pair_row(first: int, second: int, has_second: Any, columns: int, to: int) -> None:
    whole = columns // LANES * LANES if has_second else 0
    for j in range(0, whole, LANES):
        _pair_vectors(first + j * FLOAT, second + j * FLOAT, to + j * FLOAT)
    own, out = words(first, 1, columns), words(to, 1, columns)
    for j in range(whole, columns):
        out[0, j] = rounded(own[0, j])
    if has_second:
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
