"""Matrix products from compiled loops: C = A B, or C + A B, a tile of C at a time in this processor's registers.

Matrices are float32 and given by address, with the bytes from one row, or one column, to the next: that turns A and C
at no cost. B is read in panels of `PANEL` columns, which `pack` makes. Why not a BLAS: numba calls scipy's; torch's is
exported on Linux alone; and on the AMD machine where we measure it does 100 of the 118 billion operations a second that
this does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from llvmlite import binding, ir
from numba import carray, types
from numba.core import cgutils, config
from numba.extending import intrinsic

from funnelcast.compiled import compiled_for_speed

FLOAT: Final = 4  # bytes
_FEATURES: Final = config.CPU_FEATURES
_HAS: Final = _FEATURES if _FEATURES is not None else binding.get_host_cpu_features().flatten()
_MANY_REGISTERS: Final = "+avx512f" in _HAS or "+neon" in _HAS  # 32, others have 16
LANES: Final = 16 if "+avx512f" in _HAS else 8 if "+avx" in _HAS else 4
"""Numbers in a register."""
VECTORS: Final = 4 if _MANY_REGISTERS else 2
"""Registers in a row of a tile."""
ROWS: Final = 6
"""Rows of a tile. ROWS × VECTORS sums, a row of B and a number of A fit the registers."""
PANEL: Final = LANES * VECTORS
"""Columns of a panel."""

_I32: Final = ir.IntType(32)
_I64: Final = ir.IntType(64)
_REAL: Final = ir.FloatType()
_VECTOR: Final = ir.VectorType(_REAL, LANES)
_ZEROS: Final = ir.Constant(_VECTOR, [0.0] * LANES)


def _load(builder: Any, address: Any) -> Any:
    vector = builder.load(builder.inttoptr(address, _VECTOR.as_pointer()))
    vector.align = FLOAT
    return vector


def _spread(builder: Any, address: Any) -> Any:
    """The number at an address in every lane."""
    blank = ir.Constant(_VECTOR, ir.Undefined)
    number = builder.load(builder.inttoptr(address, _REAL.as_pointer()))
    first = builder.insert_element(blank, number, _I32(0))
    return builder.shuffle_vector(first, blank, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))


def _code(vectors: int) -> Callable[..., Any]:
    """Code for a tile of ROWS × (vectors · LANES)."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        a, a_row, a_step, b, b_step, c, c_row, rows, depth, keep = values
        known, void = builder.module, cgutils.voidptr_t
        fma = cgutils.get_or_insert_function(known, ir.FunctionType(_VECTOR, [_VECTOR] * 3), f"llvm.fma.v{LANES}f32")
        fetch_type = ir.FunctionType(ir.VoidType(), [void, _I32, _I32, _I32])
        fetch = cgutils.get_or_insert_function(known, fetch_type, "llvm.prefetch.p0")
        start, kept, loop, end = builder.block, *map(builder.append_basic_block, ("kept", "loop", "end"))

        last = builder.sub(rows, _I64(1))
        in_range = [(builder.icmp_signed("<", _I64(r), last), _I64(r)) for r in range(ROWS)]
        taken = [builder.select(inside, r, last) for inside, r in in_range]  # past the last row, that one again
        rows_a = [builder.add(a, builder.mul(a_row, r)) for r in taken]
        rows_c = [builder.add(c, builder.mul(c_row, r)) for r in taken]
        places = [builder.add(row, _I64(v * LANES * FLOAT)) for row in rows_c for v in range(vectors)]
        for place in places:  # C is fetched while sums are made
            builder.call(fetch, [builder.inttoptr(place, void), _I32(1), _I32(3), _I32(1)])
        builder.cbranch(builder.icmp_signed("!=", keep, _I64(0)), kept, loop)

        builder.position_at_end(kept)
        before = [_load(builder, place) for place in places]
        builder.branch(loop)

        builder.position_at_end(loop)
        k, sums = builder.phi(_I64), [builder.phi(_VECTOR) for _ in places]
        at_a, at_b = builder.mul(k, a_step), builder.add(b, builder.mul(k, b_step))
        own = [_load(builder, builder.add(at_b, _I64(v * LANES * FLOAT))) for v in range(vectors)]
        numbers = [_spread(builder, builder.add(row, at_a)) for row in rows_a]
        pairs = [(number, vector) for number in numbers for vector in own]
        after = [builder.call(fma, [*pair, total]) for pair, total in zip(pairs, sums, strict=True)]
        following = builder.add(k, _I64(1))
        builder.cbranch(builder.icmp_signed("<", following, depth), loop, end)
        for block, value in ((start, _I64(0)), (kept, _I64(0)), (loop, following)):
            k.add_incoming(value, block)
        for total, own_before, own_after in zip(sums, before, after, strict=True):
            for block, value in ((start, _ZEROS), (kept, own_before), (loop, own_after)):
                total.add_incoming(value, block)

        builder.position_at_end(end)
        for place, total in zip(places, after, strict=True):
            builder.store(total, builder.inttoptr(place, _VECTOR.as_pointer())).align = FLOAT
        return context.get_dummy_value()

    return code


def _tile(vectors: int) -> Any:
    def tile(
        typing: Any, a: Any, a_row: Any, a_step: Any, b: Any, b_step: Any, c: Any, c_row: Any, rows: Any, depth: Any,
        keep: Any,
    ) -> Any:  # fmt: skip
        return types.void(*[types.int64] * 10), _code(vectors)

    return intrinsic(tile)


_tile1, _tile2, _tile3, _tile4 = map(_tile, (1, 2, 3, 4))


def _to_pointer(typing: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), code


_pointer = intrinsic(_to_pointer)


@compiled_for_speed
def matrix(address: int, rows: int, columns: int) -> Any:
    """The float32 matrix (rows, columns), row-major, at an address."""
    return carray(_pointer(address), (rows, columns), np.float32)


@compiled_for_speed
def shorts(address: int, rows: int, columns: int) -> Any:
    """The int16 matrix (rows, columns), row-major, at an address."""
    return carray(_pointer(address), (rows, columns), np.int16)


@compiled_for_speed
def multiply(
    a: int, a_row: int, a_step: int, b: int, b_panel: int, b_step: int, c: int, c_row: int, rows: int, depth: int,
    columns: int, keep: int, room: int,
) -> None:  # fmt: skip
    """C (rows, columns) = A (rows, depth) B + keep · C, `keep` 0 or 1. Bytes: `a_row` and `a_step` from a row and a
    column of A to the next, `b_panel` and `b_step` from a panel and a row of B, `c_row` from a row of C; `room` for a
    tile.
    """
    for begin in range(0, columns, PANEL):
        wide = min(PANEL, columns - begin)
        vectors = (wide + LANES - 1) // LANES
        panel = b + begin // PANEL * b_panel
        for r in range(0, rows, ROWS):
            left = min(ROWS, rows - r)
            from_a, to_c = a + r * a_row, c + r * c_row + begin * FLOAT
            if wide % LANES == 0:
                _fill(vectors, from_a, a_row, a_step, panel, b_step, to_c, c_row, left, depth, keep)
            else:
                _fill(vectors, from_a, a_row, a_step, panel, b_step, room, PANEL * FLOAT, left, depth, 0)
                for i in range(left):
                    own, target = matrix(room + i * PANEL * FLOAT, 1, wide), matrix(to_c + i * c_row, 1, wide)
                    for j in range(wide):
                        target[0, j] = own[0, j] + target[0, j] if keep else own[0, j]


@compiled_for_speed
def times(x: int, packed: int, y: int, rows: int, depth: int, columns: int, keep: int, room: int) -> None:
    """Y = X B + keep · Y, row-major but for B, which `pack` made."""
    step, panel = PANEL * FLOAT, depth * PANEL * FLOAT
    multiply(x, depth * FLOAT, FLOAT, packed, panel, step, y, columns * FLOAT, rows, depth, columns, keep, room)


@compiled_for_speed
def turned_times(x: int, g: int, w: int, rows: int, depth: int, columns: int, keep: int, room: int) -> None:
    """W = Xᵀ G + keep · W of row-major X (depth, rows) and G (depth, columns), after which LANES numbers more can be
    read."""
    panel, step = PANEL * FLOAT, columns * FLOAT
    multiply(x, FLOAT, rows * FLOAT, g, panel, step, w, columns * FLOAT, rows, depth, columns, keep, room)


@compiled_for_speed
def packed_size(depth: int, columns: int) -> int:
    """Bytes of a matrix's panels."""
    return depth * ((columns + PANEL - 1) // PANEL) * PANEL * FLOAT


@compiled_for_speed
def _fill(
    vectors: int, a: int, a_row: int, a_step: int, b: int, b_step: int, c: int, c_row: int, rows: int, depth: int,
    keep: int,
) -> None:  # fmt: skip
    """A tile, or what of it is left."""
    if vectors == 4:
        _tile4(a, a_row, a_step, b, b_step, c, c_row, rows, depth, keep)
    elif vectors == 3:
        _tile3(a, a_row, a_step, b, b_step, c, c_row, rows, depth, keep)
    elif vectors == 2:
        _tile2(a, a_row, a_step, b, b_step, c, c_row, rows, depth, keep)
    else:
        _tile1(a, a_row, a_step, b, b_step, c, c_row, rows, depth, keep)


@compiled_for_speed
def pack(w: int, row: int, column: int, depth: int, columns: int, panels: int) -> None:
    """Panels of a matrix (depth, columns) at `w`, with `row` and `column` bytes to the next: each (depth, PANEL), one
    after the other, zeros where there are no columns."""
    for begin in range(0, columns, PANEL):
        wide = min(PANEL, columns - begin)
        panel = matrix(panels + begin * depth * FLOAT, depth, PANEL)
        for k in range(depth):
            for j in range(wide):
                panel[k, j] = _number(w + k * row + (begin + j) * column)
            for j in range(wide, PANEL):
                panel[k, j] = 0


@compiled_for_speed
def _number(address: int) -> Any:
    return matrix(address, 1, 1)[0, 0]
