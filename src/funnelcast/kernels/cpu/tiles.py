"""Tiles of a matrix product, as code that holds the sums of each in this processor's registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from funnelcast.kernels.cpu.codegen import (
    FLOAT,
    HAS,
    HAS_32_REGISTERS,
    I64,
    LANES,
    VECTOR,
    ZEROS,
    bias_relu,
    broadcast,
    fma,
    leaky_relu_by,
    load_scalar,
    load_vector,
    prefetch_at,
    store_vector,
    vector_addresses,
)

VECTORS: Final = 4 if HAS_32_REGISTERS else 2
"""Registers in a row of a tile."""
ROWS: Final = 6
"""Rows of a tile. ROWS × VECTORS sums, a row of B and an element of A fit the registers."""
HAS_BF16: Final = "+avx512bf16" in HAS
"""Whether there is an instruction for products of bfloat16."""


class _BFloat16(ir.Type):  # type: ignore[misc]
    """bfloat16, which llvmlite has no name for."""

    def _to_string(self) -> str:
        return "bfloat"


BF16: Final = _BFloat16()
_BF16_VECTOR: Final = ir.VectorType(BF16, 2 * LANES)


def tiles_of(*, transposed: bool = False, bf16: bool = False) -> Any:
    """A function for kernels that fills a column of tiles, C = A B + beta · C.

    It takes how many registers wide C is, up to VECTORS; the address of A, and the bytes from one tile's rows to the
    next one's and from a row to the next one, or with `transposed` from a column to the next one; of B, and the bytes
    to its next row; of C, and to its next row; how many rows C has; the columns of A; and `beta`, 0 or 1. All are
    int64, elements are float32. What follows an element of A in memory is the next one of its row, or with `transposed`
    of its column. With `bf16`, an element of A and B is a pair of bfloat16, whose products are added.
    """

    def tiles(
        typing: Any, vectors: Any, a: Any, a_tile: Any, a_step: Any, b: Any, b_step: Any, c: Any, c_row: Any, rows: Any,
        depth: Any, beta: Any,
    ) -> Any:  # fmt: skip
        return types.void(*[types.int64] * 11), _code(_fmas if bf16 else fma, transposed)

    return intrinsic(tiles)


def _relu_tiles(
    typing: Any, vectors: Any, a: Any, a_tile: Any, a_step: Any, b: Any, b_step: Any, c: Any, c_row: Any, rows: Any,
    depth: Any, beta: Any, bias: Any, slope: Any,
) -> Any:  # fmt: skip
    return types.void(*[types.int64] * 12, types.float32), _code(fma, transposed=False, finish=_with_relu)


def _masked_tiles(
    typing: Any, vectors: Any, a: Any, a_tile: Any, a_step: Any, b: Any, b_step: Any, c: Any, c_row: Any, rows: Any,
    depth: Any, beta: Any, output: Any, grad_bias: Any, scale: Any, slope: Any,
) -> Any:  # fmt: skip
    numbers = [types.int64] * 13 + [types.float32] * 2
    return types.void(*numbers), _code(fma, transposed=False, finish=_with_mask)


relu_tiles: Final = intrinsic(_relu_tiles)
"""As `tiles_of`; to each row of C what is at the address `bias` is added, and what is not above 0 is multiplied by
`slope`."""
masked_tiles: Final = intrinsic(_masked_tiles)
"""As `tiles_of`; C is scaled, by `slope` too where an output, of the same rows as C, is not above 0. Its rows are added
to what is at the address `grad_bias`."""


def _code(
    add: Callable[..., Any], transposed: bool, finish: Callable[..., list[Any]] | None = None
) -> Callable[..., Any]:
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        requested, a, a_tile, a_step, b, b_step, c, c_row, rows, depth, beta, *more = values
        to_row, to_column = (I64(FLOAT), a_step) if transposed else (a_step, I64(FLOAT))

        def tile(vectors: int, index: Any, its_rows: Any) -> None:
            own = _Tile(vectors, index, c_row, its_rows)
            rows_a = _rows(builder, builder.add(a, builder.mul(index, a_tile)), to_row, its_rows)
            addresses = own.addresses(builder, c)
            sums = _sums(builder, (rows_a, to_column, b, b_step, addresses), depth, beta, add)
            if finish is not None:
                sums = finish(builder, sums, own, *more)
            for address, total in zip(addresses, sums, strict=True):
                store_vector(builder, total, address)

        whole, left = builder.sdiv(rows, I64(ROWS)), builder.srem(rows, I64(ROWS))
        for vectors in range(1, VECTORS + 1):
            with builder.if_then(builder.icmp_signed("==", requested, I64(vectors))):
                with cgutils.for_range(builder, whole) as loop:
                    tile(vectors, loop.index, None)
                with builder.if_then(builder.icmp_signed(">", left, I64(0)), likely=False):
                    tile(vectors, whole, left)
        return context.get_dummy_value()

    return code


def _sums(builder: Any, operands: Any, depth: Any, beta: Any, add: Callable[..., Any]) -> list[Any]:
    """Code of a tile's sums: addresses of A's rows and of C's registers, and the way to A's next column and B's next
    row."""
    rows_a, to_column, b, b_step, addresses = operands
    vectors = len(addresses) // ROWS
    for address in addresses:  # while sums are made
        prefetch_at(builder, address)
    start, kept, loop, end = builder.block, *map(builder.append_basic_block, ("kept", "loop", "end"))
    builder.cbranch(builder.icmp_signed("!=", beta, I64(0)), kept, loop)

    builder.position_at_end(kept)
    before = [load_vector(builder, address) for address in addresses]
    builder.branch(loop)

    builder.position_at_end(loop)
    k, sums = builder.phi(I64), [builder.phi(VECTOR) for _ in addresses]
    address_a, address_b = builder.mul(k, to_column), builder.add(b, builder.mul(k, b_step))
    own = [load_vector(builder, address) for address in vector_addresses(builder, address_b, vectors)]
    numbers = [broadcast(builder, load_scalar(builder, builder.add(row, address_a))) for row in rows_a]
    pairs = [(number, vector) for number in numbers for vector in own]
    after = [add(builder, *pair, total) for pair, total in zip(pairs, sums, strict=True)]
    following = builder.add(k, I64(1))
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, end)
    for block, value in ((start, I64(0)), (kept, I64(0)), (loop, following)):
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

    def addresses(self, builder: Any, begin: Any) -> list[Any]:
        """Addresses of its registers, row by row, in C or a matrix like it."""
        at = builder.add(begin, builder.mul(self.index, builder.mul(self.row, I64(ROWS))))
        rows = _rows(builder, at, self.row, self.rows)
        return [address for row in rows for address in vector_addresses(builder, row, self.vectors)]


def _with_relu(builder: Any, sums: list[Any], tile: _Tile, bias: Any, slope: Any) -> list[Any]:
    biases = [load_vector(builder, address) for address in vector_addresses(builder, bias, tile.vectors)]
    slope = broadcast(builder, slope)
    return [bias_relu(builder, total, biases[i % tile.vectors], slope) for i, total in enumerate(sums)]


def _with_mask(
    builder: Any, sums: list[Any], tile: _Tile, output: Any, grad_bias: Any, scale: Any, slope: Any
) -> list[Any]:
    scale, slope, found = broadcast(builder, scale), broadcast(builder, slope), []
    biases = vector_addresses(builder, grad_bias, tile.vectors)
    added = [load_vector(builder, address) for address in biases]
    for i, (total, address) in enumerate(zip(sums, tile.addresses(builder, output), strict=True)):
        r, v = divmod(i, tile.vectors)
        found.append(leaky_relu_by(builder, builder.fmul(total, scale), load_vector(builder, address), slope))
        once = found[-1]
        if tile.rows is not None:  # the last row stands for those that there are not
            once = builder.select(builder.icmp_signed("<", I64(r), tile.rows), once, ZEROS)
        added[v] = builder.fadd(added[v], once)
    for address, total in zip(biases, added, strict=True):
        store_vector(builder, total, address)
    return found


def _rows(builder: Any, begin: Any, step: Any, rows: Any) -> list[Any]:
    """Addresses of ROWS rows; with `rows` of them, past the last one that one again."""
    taken = [I64(r) for r in range(ROWS)]
    if rows is not None:
        last = builder.sub(rows, I64(1))
        taken = [builder.select(builder.icmp_signed("<", r, last), r, last) for r in taken]
    return [builder.add(begin, builder.mul(step, r)) for r in taken]


def _fmas(builder: Any, x: Any, y: Any, total: Any) -> Any:
    """Of pairs of bfloat16."""
    kind = ir.FunctionType(VECTOR, [VECTOR, _BF16_VECTOR, _BF16_VECTOR])
    dot = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512bf16.dpbf16ps.512")
    return builder.call(dot, [total, builder.bitcast(x, _BF16_VECTOR), builder.bitcast(y, _BF16_VECTOR)])
