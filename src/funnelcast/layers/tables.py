"""Rows of tables, added up for a code of each, or added to: as code that holds numbers in registers meanwhile.

Compiled from Python, such loops load and store a sum once for each table: three times as slow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from funnelcast.layers.tiles import FLOAT, LANES, load_vector

_AT_ONCE: Final = 8
"""Registers."""
_I64: Final = ir.IntType(64)
_CODE: Final = ir.IntType(32)

Body = Callable[[Any, int], None]


def _function(make: Callable[..., Body]) -> Any:
    """An intrinsic of int64: the addresses of a row, of its codes (int32) and of the table, how many codes there are,
    and the numbers of a row, a multiple of LANES. `make`: of these, the code for some registers at an offset."""

    def row(typing: Any, own: Any, codes: Any, table: Any, count: Any, width: Any) -> Any:
        return types.void(*[types.int64] * 5), code

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        own, codes, table, count, width = values
        bytes_of_row = builder.mul(width, _I64(FLOAT))

        def place(code: Any, offset: Any) -> Any:
            at = builder.inttoptr(builder.add(codes, builder.mul(code, _I64(FLOAT))), _CODE.as_pointer())
            before = builder.mul(builder.zext(builder.load(at), _I64), bytes_of_row)
            return builder.add(builder.add(table, before), offset)

        body = make(builder, own, place, count)
        vectors, piece = builder.sdiv(width, _I64(LANES)), _AT_ONCE * LANES * FLOAT
        whole, left = builder.sdiv(vectors, _I64(_AT_ONCE)), builder.srem(vectors, _I64(_AT_ONCE))
        with cgutils.for_range(builder, whole) as loop:
            body(builder.mul(loop.index, _I64(piece)), _AT_ONCE)
        done = builder.mul(whole, _I64(piece))
        with cgutils.for_range(builder, left) as loop:
            body(builder.add(done, builder.mul(loop.index, _I64(LANES * FLOAT))), 1)
        return context.get_dummy_value()

    return intrinsic(row)


def _adding_rows(builder: Any, own: Any, place: Callable[..., Any], count: Any) -> Body:
    def body(offset: Any, vectors: int) -> None:
        before = _load(builder, builder.add(own, offset), vectors)
        start, loop, end = builder.block, *map(builder.append_basic_block, ("loop", "end"))
        builder.branch(loop)
        builder.position_at_end(loop)
        code, sums = builder.phi(_I64), [builder.phi(vector.type) for vector in before]
        row = place(code, offset)
        after = [builder.fadd(total, load) for total, load in zip(sums, _load(builder, row, vectors), strict=True)]
        following = builder.add(code, _I64(1))
        builder.cbranch(builder.icmp_signed("<", following, count), loop, end)
        for block, number in ((start, _I64(0)), (loop, following)):
            code.add_incoming(number, block)
        for total, own_before, own_after in zip(sums, before, after, strict=True):
            total.add_incoming(own_before, start)
            total.add_incoming(own_after, loop)
        builder.position_at_end(end)
        _store(builder, after, builder.add(own, offset))

    return body


def _adding_to(builder: Any, own: Any, place: Callable[..., Any], count: Any) -> Body:
    def body(offset: Any, vectors: int) -> None:
        numbers = _load(builder, builder.add(own, offset), vectors)
        with cgutils.for_range(builder, count) as loop:
            row = place(loop.index, offset)
            sums = zip(_load(builder, row, vectors), numbers, strict=True)
            _store(builder, [builder.fadd(*pair) for pair in sums], row)

    return body


def _load(builder: Any, address: Any, vectors: int) -> list[Any]:
    return [load_vector(builder, builder.add(address, _I64(v * LANES * FLOAT))) for v in range(vectors)]


def _store(builder: Any, vectors: list[Any], address: Any) -> None:
    for v, vector in enumerate(vectors):
        at = builder.add(address, _I64(v * LANES * FLOAT))
        builder.store(vector, builder.inttoptr(at, vector.type.as_pointer())).align = FLOAT


add_rows = _function(_adding_rows)
"""The table's rows with its codes, of which there is one at least, are added to the row."""
add_to_rows = _function(_adding_to)
"""The row is added to the table's rows with its codes."""
