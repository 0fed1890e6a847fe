"""Products of few rows, as of a user's candidates: weights are read in place, what rows share is multiplied once."""

from __future__ import annotations

from typing import Any, Final

from funnelcast.compiled import compiled_for_speed
from funnelcast.layers.products import PANEL, matrix, multiply
from funnelcast.layers.tiles import FLOAT, LANES, ROWS

FEW: Final = 384
"""Rows for which packing a weight would be most of the work."""


@compiled_for_speed
def is_read_once(bank: Any, width: int) -> Any:
    """Whether a weight is better read where it is."""
    return bank.rows <= FEW and width % LANES == 0 and not bank.half


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
def times_in_place(
    x: int, w: int, y: int, rows: int, depth: int, columns: int, shared: int, room: int, half: int, groups: Any
) -> None:  # fmt: skip
    """Y = X W, row-major, of W without the rows of `groups`. The first `shared` columns of X, the same in all rows, are
    multiplied once; that changes no bit, as sums are made column by column. `half` is 0, but not known when this is
    compiled: `times` has that code too.
    """
    if shared:
        _add_product(x, w, y, min(1, rows), depth, columns, 0, shared, room, half, groups)
        out = matrix(y, rows, columns)
        for r in range(1, rows):
            for j in range(columns):
                out[r, j] = out[0, j]
    _add_product(x, w, y, rows, depth, columns, shared, depth, room, half, groups)


@compiled_for_speed
def _add_product(
    x: int, w: int, y: int, rows: int, depth: int, columns: int, begin: int, end: int, room: int, half: int, groups: Any
) -> None:  # fmt: skip
    """Adds that of X's columns `begin` … `end` - 1, or begins with it."""
    own, step, panel = depth * FLOAT, columns * FLOAT, PANEL * FLOAT
    at = skipped = 0  # columns of X that are done with, and of groups
    for g in range(len(groups) + 1):
        until = groups[g].start - skipped if g < len(groups) else depth
        first, last, keep = max(at, begin), min(until, end), 1 if max(at, begin) else 0
        if first < last:
            a, b = x + first * FLOAT, w + (first + skipped) * step
            multiply(a, ROWS * own, own, 0, b, panel, step, y, step, rows, last - first, columns, keep, room, half)
        at = until
        skipped += groups[g].width if g < len(groups) else 0
