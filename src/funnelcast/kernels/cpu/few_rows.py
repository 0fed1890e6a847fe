"""Products of few rows, as of a user's candidates: weights are read in place, columns that rows share once."""

from __future__ import annotations

from typing import Any, Final

from funnelcast.compiled import compiled_for_speed
from funnelcast.kernels.cpu.codegen import FLOAT, LANES
from funnelcast.kernels.cpu.gemm import PANEL, matrix, multiply
from funnelcast.kernels.cpu.tiles import ROWS

FEW: Final = 384
"""Rows for which packing a weight would be most of the work."""


@compiled_for_speed
def is_read_once(bank: Any, width: int) -> Any:
    """Whether a weight is better read where it is."""
    return bank.rows <= FEW and width % LANES == 0 and not bank.bf16


@compiled_for_speed
def shared_columns(bank: Any, columns: int) -> Any:
    """How many leading columns of the networks' common input are the same in all of its few rows; not the last one."""
    if bank.x_step or bank.rows <= ROWS or bank.rows > FEW:
        return 0
    x, shared = matrix(bank.x, bank.rows, columns), columns - 1
    for r in range(1, bank.rows):
        j = 0
        while j < shared and x[r, j] == x[0, j]:
            j += 1
        shared = j
    return shared


@compiled_for_speed
def gemm_in_place(
    x: int, w: int, y: int, rows: int, depth: int, columns: int, shared: int, scratch: int, bf16: int
) -> None:  # fmt: skip
    """Y = X W, row-major. The first `shared` columns of X, the same in all rows, are multiplied once; that changes no
    bit, as sums are made column by column. `bf16` is 0, but not known when this is compiled: `gemm` has that code too.
    """
    own, row, panel = depth * FLOAT, columns * FLOAT, PANEL * FLOAT
    if shared:
        multiply(x, ROWS * own, own, 0, w, panel, row, y, row, min(1, rows), shared, columns, 0, scratch, bf16)
        out = matrix(y, rows, columns)
        for r in range(1, rows):
            for j in range(columns):
                out[r, j] = out[0, j]
    rest, after, beta = x + shared * FLOAT, w + shared * row, 1 if shared else 0
    multiply(rest, ROWS * own, own, 0, after, panel, row, y, row, rows, depth - shared, columns, beta, scratch, bf16)
