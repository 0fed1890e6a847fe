"""Rows of a table, added up for a row's indices, or added to: as code that keeps sums in registers meanwhile.

Compiled from Python, such loops load and store a sum once for each index: three times as slow.
"""

from __future__ import annotations

from typing import Any, Final

from numba import types
from numba.extending import intrinsic

from funnelcast.kernels.cpu.codegen import Chunk, assign, bias_relu, for_each_chunk, for_each_row, variables


def _add_rows(typing: Any, row: Any, indices: Any, table: Any, count: Any, width: Any) -> Any:
    return types.void(*[types.int64] * 5), _adding_rows


def _add_rows_bias_relu(
    typing: Any, row: Any, indices: Any, table: Any, count: Any, width: Any, bias: Any, slope: Any
) -> Any:  # fmt: skip
    return types.void(*[types.int64] * 6, types.float32), _adding_rows


def _adding_rows(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    row, indices, table, count, width, *more = values

    def add(chunk: Chunk) -> None:
        sums = variables(builder, chunk.load(row))
        with for_each_row(builder, indices, count, table, width) as other:
            pairs = zip(sums, chunk.load(other), strict=True)
            assign(builder, [builder.fadd(builder.load(total), vector) for total, vector in pairs], sums)
        found = [builder.load(total) for total in sums]
        if more:
            bias, slope = more
            found = [
                bias_relu(builder, *pair, chunk.broadcast(slope)) for pair in zip(found, chunk.load(bias), strict=True)
            ]
        chunk.store(found, row)

    for_each_chunk(builder, width, add)
    return context.get_dummy_value()


def _add_to_rows(typing: Any, row: Any, indices: Any, table: Any, count: Any, width: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        row, indices, table, count, width = values

        def add(chunk: Chunk) -> None:
            vectors = chunk.load(row)
            with for_each_row(builder, indices, count, table, width) as other:
                pairs = zip(chunk.load(other), vectors, strict=True)
                chunk.store([builder.fadd(*pair) for pair in pairs], other)

        for_each_chunk(builder, width, add)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), code


add_rows: Final = intrinsic(_add_rows)
"""Add to a row the table's rows at its indices. int64: the addresses of the row, of its indices (int32) and of the
table, how many indices there are, and the elements of a row."""
add_rows_bias_relu: Final = intrinsic(_add_rows_bias_relu)
"""The same; then add the bias at an address, and multiply what is not above 0 by a float32."""
add_to_rows: Final = intrinsic(_add_to_rows)
"""Add the row to the table's rows at its indices; arguments as of `add_rows`."""
