"""Rows of tables, added up for a code of each, or added to: as code that holds numbers in registers meanwhile.

Compiled from Python, such loops load and store a sum once for each table: three times as slow.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from funnelcast.layers.pieces import Piece, in_pieces, put, variables
from funnelcast.layers.tiles import FLOAT, rectify

_I64: Final = ir.IntType(64)
_CODE: Final = ir.IntType(32)


def _to_add_rows(typing: Any, own: Any, codes: Any, table: Any, count: Any, width: Any) -> Any:
    return types.void(*[types.int64] * 5), _adding_rows


def _to_add_rows_and_rectify(
    typing: Any, own: Any, codes: Any, table: Any, count: Any, width: Any, bias: Any, slope: Any
) -> Any:  # fmt: skip
    return types.void(*[types.int64] * 6, types.float32), _adding_rows


def _adding_rows(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    own, codes, table, count, width, *more = values

    def add(piece: Piece) -> None:
        sums = variables(builder, piece.load(own))
        with _each(builder, codes, count, table, width) as row:
            pairs = zip(sums, piece.load(row), strict=True)
            put(builder, [builder.fadd(builder.load(total), vector) for total, vector in pairs], sums)
        found = [builder.load(total) for total in sums]
        if more:
            bias, slope = more
            pairs = zip(found, piece.load(bias), strict=True)
            found = [rectify(builder, *pair, piece.spread(slope)) for pair in pairs]
        piece.store(found, own)

    in_pieces(builder, width, add)
    return context.get_dummy_value()


def _to_add_to_rows(typing: Any, own: Any, codes: Any, table: Any, count: Any, width: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        own, codes, table, count, width = values

        def add(piece: Piece) -> None:
            vectors = piece.load(own)
            with _each(builder, codes, count, table, width) as row:
                piece.store([builder.fadd(*pair) for pair in zip(piece.load(row), vectors, strict=True)], row)

        in_pieces(builder, width, add)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), code


@contextmanager
def _each(builder: Any, codes: Any, count: Any, table: Any, width: Any) -> Iterator[Any]:
    """Code for the address of each code's row."""
    with cgutils.for_range(builder, count) as loop:
        place = builder.inttoptr(builder.add(codes, builder.mul(loop.index, _I64(FLOAT))), _CODE.as_pointer())
        before = builder.mul(builder.zext(builder.load(place), _I64), width)
        yield builder.add(table, builder.mul(before, _I64(FLOAT)))


add_rows: Final = intrinsic(_to_add_rows)
"""Adds to a row the table's rows with its codes. int64: the addresses of the row, of its codes (int32) and of the
table, how many codes there are, and the numbers of a row."""
add_rows_and_rectify: Final = intrinsic(_to_add_rows_and_rectify)
"""The same, and a bias's address and a float32: then the bias is added, and what is not above the number becomes 0."""
add_to_rows: Final = intrinsic(_to_add_to_rows)
"""Adds the row to the table's rows with its codes; as `add_rows`."""
