"""Matrix products, C = A B + beta · C, tile by tile, for kernels to call between their other work on a block.

Matrices are float32 and given by address, with the bytes from one row, or one column, to the next, so that transposes
cost nothing. B is read in panels of `PANEL` columns, which `pack` makes. A BLAS has no such function that a kernel
could call: numba calls scipy's, and torch's is exported on Linux alone.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import types
from numba.extending import intrinsic
from numba.np import arrayobj

from funnelcast.compiled import compiled_for_speed, helper
from funnelcast.kernels.cpu.codegen import FLOAT, HAS_32_REGISTERS, I64, LANES, load_vector, store_vector
from funnelcast.kernels.cpu.outlined import outlined
from funnelcast.kernels.cpu.tiles import HAS_BF16, ROWS, VECTORS, masked_tiles, relu_tiles, tiles_of

PANEL: Final = LANES * VECTORS
"""Columns of a panel."""
OVERWRITE: Final[Any] = np.int64(0)
"""As `beta`. For a 0 from Python numba would compile a product once more."""

_tiles, _transposed_tiles = tiles_of(), tiles_of(transposed=True)
_bf16_tiles, _transposed_bf16_tiles = tiles_of(bf16=HAS_BF16), tiles_of(transposed=True, bf16=HAS_BF16)


def _copy(typing: Any, source: Any, target: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        store_vector(builder, load_vector(builder, values[0]), values[1])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), code


_copy_vector = intrinsic(_copy)


def _view_of(kind: Any, dimensions: int = 2) -> Any:
    """A function of an address and a shape. numba's `carray` would be compiled for each kernel."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array = context.make_array(signature.return_type)(context, builder)
        size = I64(context.get_abi_sizeof(context.get_data_type(kind)))
        data = builder.inttoptr(values[0], context.get_data_type(kind).as_pointer())
        steps = [size] if dimensions == 1 else [builder.mul(values[2], size), size]
        arrayobj.populate_array(array, data, values[1:], steps, size, meminfo=None)
        return array._getvalue()

    signature = types.Array(kind, dimensions, "C")(*[types.int64] * (1 + dimensions))

    def matrix(typing: Any, address: Any, rows: Any, columns: Any) -> Any:
        return signature, code

    def vector(typing: Any, address: Any, count: Any) -> Any:
        return signature, code

    return intrinsic(vector if dimensions == 1 else matrix)


matrix: Final = _view_of(types.float32)
"""The float32 matrix (rows, columns), row-major, at an address."""
words: Final = _view_of(types.uint32)
"""The same of uint32."""
shorts: Final = _view_of(types.int16)
"""The same of int16."""
longs: Final = _view_of(types.int64, 1)
"""The int64 elements (count,) at an address."""


def _of(typing: Any, address: Any, n: Any, rows: Any, columns: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        address, n, rows, columns = values
        return builder.add(address, builder.mul(builder.mul(n, rows), builder.mul(columns, I64(FLOAT))))

    return types.int64(*[types.int64] * 4), code


of: Final = intrinsic(_of)
"""Where network n's matrix (rows, columns) of floats begins: of(address, n, rows, columns)."""


@outlined(15)
def multiply(
    a: int, a_tile: int, a_step: int, transposed: int, b: int, b_panel: int, b_step: int, c: int, c_row: int, rows: int,
    depth: int, columns: int, beta: int, scratch: int, bf16: int,
) -> None:  # fmt: skip
    """C (rows, columns) = A (rows, depth) B + beta · C of a depth above 0, `beta` 0 or 1. Bytes: `a_tile` from ROWS
    rows of A to the next, `a_step` from a row to the next one or, with `transposed` 1, from a column; `b_panel` and
    `b_step` from a panel and a row of B, `c_row` from a row of C; `scratch` for a tile. With `bf16` 1, an element of A
    and B is a pair of bfloat16.
    """
    for begin in range(0, columns, PANEL):
        wide = min(PANEL, columns - begin)
        vectors = (wide + LANES - 1) // LANES
        panel, to = b + begin // PANEL * b_panel, c + begin * FLOAT
        if wide % LANES == 0:
            _fill(vectors, a, a_tile, a_step, transposed, panel, b_step, to, c_row, rows, depth, beta, bf16)
            continue
        for r in range(0, rows, ROWS):
            left, own, target = min(ROWS, rows - r), a + r // ROWS * a_tile, to + r * c_row
            if beta:
                _copy_corner(target, c_row, scratch, PANEL * FLOAT, left, wide)
            _fill(
                vectors, own, a_tile, a_step, transposed, panel, b_step, scratch, PANEL * FLOAT, left, depth, beta, bf16
            )
            _copy_corner(scratch, PANEL * FLOAT, target, c_row, left, wide)


@helper
def _copy_corner(source: int, source_row: int, target: int, target_row: int, rows: int, columns: int) -> None:
    for r in range(rows):
        a, b = matrix(source + r * source_row, 1, columns), matrix(target + r * target_row, 1, columns)
        for j in range(columns):
            b[0, j] = a[0, j]


@compiled_for_speed
def gemm(x: int, packed: int, y: int, rows: int, depth: int, columns: int, beta: int, scratch: int, bf16: int) -> None:
    """Y = X B + beta · Y, row-major but for B, which `pack` made."""
    step, panel = PANEL * FLOAT, depth * PANEL * FLOAT
    own, wide = depth * FLOAT, columns * FLOAT
    multiply(x, ROWS * own, own, 0, packed, panel, step, y, wide, rows, depth, columns, beta, scratch, bf16)


@outlined(7, 1)
def gemm_bias_relu(
    x: int, packed: int, y: int, rows: int, depth: int, columns: int, bias: int, slope: float
) -> None:  # fmt: skip
    """Y = X B + bias, times a slope where not above 0; as `gemm`, of float32, `columns` a multiple of LANES."""
    own, panel = depth * FLOAT, depth * PANEL * FLOAT
    for begin in range(0, columns, PANEL):
        vectors, b, skipped = min(PANEL, columns - begin) // LANES, packed + begin // PANEL * panel, begin * FLOAT
        relu_tiles(
            vectors, x, ROWS * own, own, b, PANEL * FLOAT, y + skipped, columns * FLOAT, rows, depth, OVERWRITE,
            bias + skipped, np.float32(slope),
        )  # fmt: skip


@outlined(8, 2)
def gemm_mask(
    x: int, packed: int, y: int, rows: int, depth: int, columns: int, output: int, grad_bias: int, scale: float,
    slope: float,
) -> None:  # fmt: skip
    """Y = scale · X B, times a slope where a matrix like it, `output`, is not above 0; as `gemm`, of float32,
    `columns` a multiple of LANES. Adds Y's rows to `grad_bias` (columns,)."""
    own, panel = depth * FLOAT, depth * PANEL * FLOAT
    for begin in range(0, columns, PANEL):
        vectors, b, skipped = min(PANEL, columns - begin) // LANES, packed + begin // PANEL * panel, begin * FLOAT
        masked_tiles(
            vectors, x, ROWS * own, own, b, PANEL * FLOAT, y + skipped, columns * FLOAT, rows, depth, OVERWRITE,
            output + skipped, grad_bias + skipped, np.float32(scale), np.float32(slope),
        )  # fmt: skip


@compiled_for_speed
def gemm_tn(x: int, g: int, w: int, rows: int, depth: int, columns: int, beta: int, scratch: int, bf16: int) -> None:
    """W = Xᵀ G + beta · W of row-major X (depth, rows) and G (depth, columns), after which LANES elements more can be
    read; `scratch` as `gemm_tn_scratch` says. With few registers, what a tile reads is better copied into one
    block."""
    step, panel = columns * FLOAT, scratch + ROWS * PANEL * FLOAT
    tile, own = ROWS * FLOAT, rows * FLOAT
    if HAS_32_REGISTERS:
        multiply(x, tile, own, 1, g, PANEL * FLOAT, step, w, step, rows, depth, columns, beta, scratch, bf16)
        return
    if columns >= 4 * PANEL and rows >= PANEL:
        to = panel + depth * PANEL * FLOAT
        _copy_tiles(x, rows, depth, to)
        x, tile, own = to, depth * ROWS * FLOAT, ROWS * FLOAT
    for begin in range(0, columns, PANEL):
        wide, to = min(PANEL, columns - begin), w + begin * FLOAT
        _copy_panel(g + begin * FLOAT, step, depth, wide, panel)
        multiply(x, tile, own, 1, panel, 0, PANEL * FLOAT, to, step, rows, depth, wide, beta, scratch, bf16)


@compiled_for_speed
def gemm_tn_scratch(rows: int, depth: int) -> int:
    """Elements of `gemm_tn`'s scratch: a tile of W, a panel of G, and all of X."""
    return (ROWS + depth) * PANEL + depth * (rows + ROWS) + LANES


@helper
def _copy_tiles(x: int, rows: int, depth: int, to: int) -> None:
    """Of row-major X (depth, rows) ROWS columns at a time, those of a tile one after the other. A vector may be longer:
    what is too much is overwritten by what comes next."""
    for k in range(depth - 1):
        for r in range(0, rows, ROWS):
            for j in range(0, ROWS, LANES):
                _copy_vector(x + (k * rows + r + j) * FLOAT, to + (r * depth + k * ROWS + j) * FLOAT)
    last = matrix(x + (depth - 1) * rows * FLOAT, 1, rows)
    for r in range(rows):
        own = matrix(to + (r // ROWS * ROWS * depth + (depth - 1) * ROWS) * FLOAT, 1, ROWS)
        own[0, r % ROWS] = last[0, r]


@helper
def _copy_panel(b: int, row: int, depth: int, columns: int, panel: int) -> None:
    """A panel of a matrix, with `row` bytes to its next row; up to LANES elements too many are read."""
    for k in range(depth):
        for j in range(0, columns, LANES):
            _copy_vector(b + k * row + j * FLOAT, panel + (k * PANEL + j) * FLOAT)


@compiled_for_speed
def packed_size(depth: int, columns: int) -> int:
    """Bytes of a matrix's panels."""
    return depth * ((columns + PANEL - 1) // PANEL) * PANEL * FLOAT


@helper
def _fill(
    vectors: int, a: int, a_tile: int, a_step: int, transposed: int, b: int, b_step: int, c: int, c_row: int, rows: int,
    depth: int, beta: int, bf16: int,
) -> None:  # fmt: skip
    """A column of tiles."""
    if HAS_BF16 and bf16:
        _fill_bf16(vectors, a, a_tile, a_step, transposed, b, b_step, c, c_row, rows, depth, beta)
    elif transposed:
        _fill_transposed(vectors, a, a_tile, a_step, b, b_step, c, c_row, rows, depth, beta)
    else:
        _fill_plain(vectors, a, a_tile, a_step, b, b_step, c, c_row, rows, depth, beta)


@outlined(11)
def _fill_plain(
    vectors: int, a: int, a_tile: int, a_step: int, b: int, b_step: int, c: int, c_row: int, rows: int, depth: int,
    beta: int,
) -> None:  # fmt: skip
    _tiles(vectors, a, a_tile, a_step, b, b_step, c, c_row, rows, depth, beta)


@outlined(11)
def _fill_transposed(
    vectors: int, a: int, a_tile: int, a_step: int, b: int, b_step: int, c: int, c_row: int, rows: int, depth: int,
    beta: int,
) -> None:  # fmt: skip
    _transposed_tiles(vectors, a, a_tile, a_step, b, b_step, c, c_row, rows, depth, beta)


@outlined(12)
def _fill_bf16(
    vectors: int, a: int, a_tile: int, a_step: int, transposed: int, b: int, b_step: int, c: int, c_row: int, rows: int,
    depth: int, beta: int,
) -> None:  # fmt: skip
    if transposed:
        _transposed_bf16_tiles(vectors, a, a_tile, a_step, b, b_step, c, c_row, rows, depth, beta)
    else:
        _bf16_tiles(vectors, a, a_tile, a_step, b, b_step, c, c_row, rows, depth, beta)


@outlined(4)
def copy_rows(x: int, to: int, rows: int, columns: int) -> None:
    """Copy a matrix (rows, columns)."""
    a, b = matrix(x, rows, columns), matrix(to, rows, columns)
    for r in range(rows):
        for j in range(columns):
            b[r, j] = a[r, j]


@outlined(3)
def fill_zeros(to: int, rows: int, columns: int) -> None:
    """Set a matrix (rows, columns) to 0."""
    a = matrix(to, rows, columns)
    for r in range(rows):
        for j in range(columns):
            a[r, j] = 0


@outlined(6)
def pack(w: int, row: int, column: int, depth: int, columns: int, panels: int) -> None:
    """Panels of a matrix (depth, columns) at `w`, with `row` and `column` bytes to the next: each (depth, PANEL), one
    after the other, with zeros after the last column up to a multiple of LANES."""
    for begin in range(0, columns, PANEL):
        wide = min(PANEL, columns - begin)
        to = panels + begin * depth * FLOAT
        if wide == PANEL and column == FLOAT:
            _copy_panel(w + begin * FLOAT, row, depth, PANEL, to)
            continue
        panel, whole = matrix(to, depth, PANEL), (wide + LANES - 1) // LANES * LANES
        for k in range(depth):
            for j in range(wide):
                panel[k, j] = _element(w + k * row + (begin + j) * column)
            for j in range(wide, whole):
                panel[k, j] = 0


@helper
def _element(address: int) -> Any:
    return matrix(address, 1, 1)[0, 0]
