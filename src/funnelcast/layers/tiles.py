"""Tiles of a matrix product, as code that holds the sums of each in this processor's registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from funnelcast.compiled import fetch_at

FLOAT: Final = 4  # bytes
_FEATURES: Final = config.CPU_FEATURES
HAS: Final = _FEATURES if _FEATURES is not None else binding.get_host_cpu_features().flatten()
HAS_MANY_REGISTERS: Final = "+avx512f" in HAS or "+neon" in HAS
"""Whether there are 32 of them, and not 16."""
LANES: Final = 16 if "+avx512f" in HAS else 8 if "+avx" in HAS else 4
"""Numbers in a register."""
VECTORS: Final = 4 if HAS_MANY_REGISTERS else 2
"""Registers in a row of a tile."""
ROWS: Final = 6
"""Rows of a tile. ROWS × VECTORS sums, a row of B and a number of A fit the registers."""

_I32: Final = ir.IntType(32)
_I64: Final = ir.IntType(64)
_REAL: Final = ir.FloatType()
_VECTOR: Final = ir.VectorType(_REAL, LANES)
ZEROS: Final = ir.Constant(_VECTOR, [0.0] * LANES)


HAS_HALF: Final = "+avx512bf16" in HAS
"""Whether products of bfloat16 have an instruction here."""


class _Half(ir.Type):  # type: ignore[misc]
    """bfloat16, which llvmlite has no name for."""

    def _to_string(self) -> str:
        return "bfloat"


HALF: Final = _Half()
_HALVES: Final = ir.VectorType(HALF, 2 * LANES)


def tiles_of(*, turned: bool = False, half: bool = False) -> Any:
    """A function for compiled loops that fills a column of tiles, C = A B + keep · C.

    It takes how many registers wide C is, up to VECTORS; the address of A, and the bytes from one tile's rows to the
    next one's and from a row to the next one, or with `turned` from a column to the next one; of B, and the bytes to
    its next row; of C, and to its next row; how many rows C has; the columns of A; and `keep`, 0 or 1. All are int64,
    numbers are float32. What follows a number of A in memory is the next one of its row, or with `turned` of its
    column. With `half`, what stands for a number of A and B is a pair of bfloat16, whose products are added.
    """

    def tiles(
        typing: Any, vectors: Any, a: Any, a_tile: Any, a_step: Any, b: Any, b_step: Any, c: Any, c_row: Any, rows: Any,
        depth: Any, keep: Any,
    ) -> Any:  # fmt: skip
        return types.void(*[types.int64] * 11), _code(_add_products if half else add_product, turned)

    return intrinsic(tiles)


def _rectified_tiles(
    typing: Any, vectors: Any, a: Any, a_tile: Any, a_step: Any, b: Any, b_step: Any, c: Any, c_row: Any, rows: Any,
    depth: Any, keep: Any, bias: Any, slope: Any,
) -> Any:  # fmt: skip
    return types.void(*[types.int64] * 12, types.float32), _code(add_product, turned=False, finish=_rectified)


def _masked_tiles(
    typing: Any, vectors: Any, a: Any, a_tile: Any, a_step: Any, b: Any, b_step: Any, c: Any, c_row: Any, rows: Any,
    depth: Any, keep: Any, output: Any, grad_bias: Any, scale: Any, slope: Any,
) -> Any:  # fmt: skip
    numbers = [types.int64] * 13 + [types.float32] * 2
    return types.void(*numbers), _code(add_product, turned=False, finish=_masked)


rectified_tiles: Final = intrinsic(_rectified_tiles)
"""As `tiles_of`; to each row of C what is at the address `bias` is added, and what is not above 0 is multiplied by
`slope`."""
masked_tiles: Final = intrinsic(_masked_tiles)
"""As `tiles_of`; C is scaled, by `slope` too where an output, of the same rows as C, is not above 0. Its rows are added
to what is at the address `grad_bias`."""


def _code(add: Callable[..., Any], turned: bool, finish: Callable[..., list[Any]] | None = None) -> Callable[..., Any]:
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        asked, a, a_tile, a_step, b, b_step, c, c_row, rows, depth, keep, *more = values
        to_row, to_column = (_I64(FLOAT), a_step) if turned else (a_step, _I64(FLOAT))

        def tile(vectors: int, index: Any, its_rows: Any) -> None:
            own = _Tile(vectors, index, c_row, its_rows)
            rows_a = _rows(builder, builder.add(a, builder.mul(index, a_tile)), to_row, its_rows)
            places = own.places(builder, c)
            sums = _sums(builder, (rows_a, to_column, b, b_step, places), depth, keep, add)
            if finish is not None:
                sums = finish(builder, sums, own, *more)
            for place, total in zip(places, sums, strict=True):
                store_vector(builder, total, place)

        whole, left = builder.sdiv(rows, _I64(ROWS)), builder.srem(rows, _I64(ROWS))
        for vectors in range(1, VECTORS + 1):
            with builder.if_then(builder.icmp_signed("==", asked, _I64(vectors))):
                with cgutils.for_range(builder, whole) as loop:
                    tile(vectors, loop.index, None)
                with builder.if_then(builder.icmp_signed(">", left, _I64(0)), likely=False):
                    tile(vectors, whole, left)
        return context.get_dummy_value()

    return code


def _sums(builder: Any, operands: Any, depth: Any, keep: Any, add: Callable[..., Any]) -> list[Any]:
    """Code of a tile's sums: addresses of A's rows and of C's registers, and the way to A's next column and B's next
    row."""
    rows_a, to_column, b, b_step, places = operands
    vectors = len(places) // ROWS
    for place in places:  # while sums are made
        fetch_at(builder, place)
    start, kept, loop, end = builder.block, *map(builder.append_basic_block, ("kept", "loop", "end"))
    builder.cbranch(builder.icmp_signed("!=", keep, _I64(0)), kept, loop)

    builder.position_at_end(kept)
    before = [load_vector(builder, place) for place in places]
    builder.branch(loop)

    builder.position_at_end(loop)
    k, sums = builder.phi(_I64), [builder.phi(_VECTOR) for _ in places]
    at_a, at_b = builder.mul(k, to_column), builder.add(b, builder.mul(k, b_step))
    own = [load_vector(builder, place) for place in places_of(builder, at_b, vectors)]
    numbers = [spread(builder, _number(builder, builder.add(row, at_a))) for row in rows_a]
    pairs = [(number, vector) for number in numbers for vector in own]
    after = [add(builder, *pair, total) for pair, total in zip(pairs, sums, strict=True)]
    following = builder.add(k, _I64(1))
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, end)
    for block, value in ((start, _I64(0)), (kept, _I64(0)), (loop, following)):
        k.add_incoming(value, block)
    for total, own_before, own_after in zip(sums, before, after, strict=True):
        for block, value in ((start, ZEROS), (kept, own_before), (loop, own_after)):
            total.add_incoming(value, block)

    builder.position_at_end(end)
    return after


class _Tile(NamedTuple):
    """Where the sums are."""

    vectors: int
    index: Any
    """How many tiles are above it."""
    row: Any
    """Bytes to C's next row."""
    rows: Any
    """None for ROWS."""

    def places(self, builder: Any, begin: Any) -> list[Any]:
        """Addresses of its registers, row by row, in C or a matrix like it."""
        at = builder.add(begin, builder.mul(self.index, builder.mul(self.row, _I64(ROWS))))
        rows = _rows(builder, at, self.row, self.rows)
        return [place for row in rows for place in places_of(builder, row, self.vectors)]


def _rectified(builder: Any, sums: list[Any], tile: _Tile, bias: Any, slope: Any) -> list[Any]:
    biases = [load_vector(builder, place) for place in places_of(builder, bias, tile.vectors)]
    slope = spread(builder, slope)
    return [rectify(builder, total, biases[i % tile.vectors], slope) for i, total in enumerate(sums)]


def _masked(
    builder: Any, sums: list[Any], tile: _Tile, output: Any, grad_bias: Any, scale: Any, slope: Any
) -> list[Any]:
    scale, slope, found = spread(builder, scale), spread(builder, slope), []
    biases = places_of(builder, grad_bias, tile.vectors)
    added = [load_vector(builder, place) for place in biases]
    for i, (total, place) in enumerate(zip(sums, tile.places(builder, output), strict=True)):
        r, v = divmod(i, tile.vectors)
        found.append(rectify_by(builder, builder.fmul(total, scale), load_vector(builder, place), slope))
        once = found[-1]
        if tile.rows is not None:  # the last row stands for those that there are not
            once = builder.select(builder.icmp_signed("<", _I64(r), tile.rows), once, ZEROS)
        added[v] = builder.fadd(added[v], once)
    for place, total in zip(biases, added, strict=True):
        store_vector(builder, total, place)
    return found


def places_of(builder: Any, begin: Any, vectors: int, lanes: int = LANES) -> list[Any]:
    """Addresses of vectors one after the other."""
    return [builder.add(begin, _I64(v * lanes * FLOAT)) for v in range(vectors)]


def rectify(builder: Any, total: Any, bias: Any, slope: Any) -> Any:
    """A vector plus its bias; times the slope where that is not above 0. nan stays."""
    total = builder.fadd(total, bias)
    return rectify_by(builder, total, total, slope)


def rectify_by(builder: Any, vector: Any, output: Any, slope: Any) -> Any:
    """A vector, times the slope where another one is not above 0."""
    is_steep = builder.fcmp_ordered("<=", output, ir.Constant(output.type, None))
    return builder.select(is_steep, builder.fmul(vector, slope), vector)


def _rows(builder: Any, begin: Any, step: Any, rows: Any) -> list[Any]:
    """Addresses of ROWS rows; with `rows` of them, past the last one that one again."""
    taken = [_I64(r) for r in range(ROWS)]
    if rows is not None:
        last = builder.sub(rows, _I64(1))
        taken = [builder.select(builder.icmp_signed("<", r, last), r, last) for r in taken]
    return [builder.add(begin, builder.mul(step, r)) for r in taken]


def add_product(builder: Any, x: Any, y: Any, total: Any) -> Any:
    """x · y + total, of vectors of any length."""
    kind = ir.FunctionType(total.type, [total.type] * 3)
    fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{total.type.count}f32")
    return builder.call(fma, [x, y, total])


def _add_products(builder: Any, x: Any, y: Any, total: Any) -> Any:
    """Of pairs of bfloat16."""
    kind = ir.FunctionType(_VECTOR, [_VECTOR, _HALVES, _HALVES])
    dot = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512bf16.dpbf16ps.512")
    return builder.call(dot, [total, builder.bitcast(x, _HALVES), builder.bitcast(y, _HALVES)])


def load_vector(builder: Any, address: Any, lanes: int = LANES) -> Any:
    """So many numbers."""
    vector = builder.load(builder.inttoptr(address, ir.VectorType(_REAL, lanes).as_pointer()))
    vector.align = FLOAT
    return vector


def store_vector(builder: Any, vector: Any, address: Any) -> None:
    """All its numbers."""
    builder.store(vector, builder.inttoptr(address, vector.type.as_pointer())).align = FLOAT


def spread(builder: Any, number: Any, lanes: int = LANES) -> Any:
    """A number in every lane."""
    blank = ir.Constant(ir.VectorType(_REAL, lanes), ir.Undefined)
    first = builder.insert_element(blank, number, _I32(0))
    return builder.shuffle_vector(first, blank, ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes))


def _number(builder: Any, address: Any) -> Any:
    return builder.load(builder.inttoptr(address, _REAL.as_pointer()))
