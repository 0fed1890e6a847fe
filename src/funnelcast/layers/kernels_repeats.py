"""A bank's first layer where vectors repeat in x (`layers/repeats.py`): tables of what each code adds to its sums."""

from __future__ import annotations

from typing import Any

import numpy as np

from funnelcast.compiled import compiled_for_speed
from funnelcast.layers.products import NOTHING, PANEL, longs, matrix, multiply, of, pack, times, turned_times
from funnelcast.layers.tables import add_rows, add_rows_and_rectify, add_to_rows
from funnelcast.layers.tiles import FLOAT, ROWS


@compiled_for_speed
def rows_of(bank: Any, layer: Any, address: int, groups: Any, n: int, i: int) -> Any:
    """Where network n's matrix of layer i begins; of the first layer, a copy of the rows that belong to no group."""
    if i > 0 or len(groups) == 0:
        return of(address, n, layer.width_in, layer.width)
    _copy_dense(of(address, n, bank.whole, layer.width), bank.first_weight, bank, layer.width, groups, True)
    return bank.first_weight


@compiled_for_speed
def make_tables(bank: Any, layer: Any, address: int, groups: Any, n: int) -> None:
    """`sums` (N, count, H): each vector times its rows of network n's first matrix."""
    width, w = layer.width, of(address, n, bank.whole, layer.width)
    for g in range(len(groups)):
        group = groups[g]
        own, row, panel = group.width * FLOAT, width * FLOAT, PANEL * FLOAT
        v, b = bank.vectors + group.at * FLOAT, w + group.start * row
        to = _sums(bank, width, n) + group.first * row
        multiply(
            v, ROWS * own, own, 0, b, panel, row, to, row, group.size, group.width, width, NOTHING, bank.room, NOTHING
        )


@compiled_for_speed
def add_tables(bank: Any, y: int, n: int, start: int, rows: int, width: int, groups: Any) -> None:
    """Adds to a block what the codes of its rows stand for."""
    tables, codes = _sums(bank, width, n), bank.codes + start * len(groups) * FLOAT
    for r in range(rows):
        add_rows(y + r * width * FLOAT, codes + r * len(groups) * FLOAT, tables, len(groups), width)


@compiled_for_speed
def add_tables_and_rectify(
    bank: Any, y: int, n: int, start: int, rows: int, width: int, groups: Any, bias: int, slope: float
) -> None:  # fmt: skip
    """The same, and the bias; then times the slope where it is not above 0."""
    tables, codes, row = _sums(bank, width, n), bank.codes + start * len(groups) * FLOAT, width * FLOAT
    for r in range(rows):
        own = codes + r * len(groups) * FLOAT
        add_rows_and_rectify(y + r * row, own, tables, len(groups), width, bias, np.float32(slope))


@compiled_for_speed
def begin_sums(bank: Any, width: int, groups: Any) -> None:
    """No gradients by tables yet."""
    if len(groups):
        last = groups[len(groups) - 1]
        matrix(bank.sums, last.first + last.size, width)[:] = 0


@compiled_for_speed
def add_to_sums(bank: Any, delta: int, start: int, rows: int, width: int, groups: Any) -> None:
    """Adds a block's gradient to those by the tables."""
    codes = bank.codes + start * len(groups) * FLOAT
    for r in range(rows):
        add_to_rows(delta + r * width * FLOAT, codes + r * len(groups) * FLOAT, bank.sums, len(groups), width)


@compiled_for_speed
def end_sums(bank: Any, layer: Any, groups: Any, n: int) -> None:
    """The gradients by network n's first weight and by the vectors, from those by its tables and `first_grad`."""
    if layer.grad_weight and len(groups):
        width, to = layer.width, of(layer.grad_weight, n, bank.whole, layer.width)
        _copy_dense(to, bank.first_grad, bank, width, groups, False)
        for g in range(len(groups)):
            group = groups[g]
            v, own = bank.vectors + group.at * FLOAT, bank.sums + group.first * width * FLOAT
            grad = to + group.start * width * FLOAT
            turned_times(v, own, grad, group.width, group.size, width, NOTHING, bank.room, NOTHING)
    if bank.grad_x:
        add_to_vectors(bank, layer, layer.weight, groups, n)


@compiled_for_speed
def add_to_vectors(bank: Any, layer: Any, address: int, groups: Any, n: int) -> None:
    """Adds to the gradients by the vectors those by the tables, times network n's first matrix."""
    row, keep = layer.width * FLOAT, 1 if n > 0 else 0
    for g in range(len(groups)):
        group = groups[g]
        w = of(address, n, bank.whole, layer.width) + group.start * row
        pack(w, FLOAT, row, layer.width, group.width, bank.packed)
        own, grad = bank.sums + group.first * row, bank.grad_vectors + group.at * FLOAT
        times(own, bank.packed, grad, group.size, layer.width, group.width, keep, bank.room, NOTHING)


@compiled_for_speed
def join(bank: Any, columns: int, groups: Any) -> None:
    """`grad_whole` (B, D), where one row of each code has the gradient by its vector and the others have 0: whoever
    adds up by ids gets the same."""
    if not (bank.grad_x and len(groups)):
        return
    whole, dense = matrix(bank.grad_whole, bank.rows, bank.whole), matrix(bank.grad_x, bank.rows, columns)
    for r in range(bank.rows):
        done = at = 0
        for g in range(len(groups) + 1):
            end = groups[g].start if g < len(groups) else bank.whole
            for j in range(done, end):
                whole[r, j] = dense[r, at]
                at += 1
            done = end
            if g < len(groups):
                done += groups[g].width
                for j in range(end, done):
                    whole[r, j] = 0
    for g in range(len(groups)):
        group = groups[g]
        readers = matrix(bank.grad_vectors + group.at * FLOAT, group.size, group.width)
        for v in range(group.size):
            r = longs(bank.readers, bank.count)[group.first + v]
            for j in range(group.width):
                whole[r, group.start + j] += readers[v, j]


@compiled_for_speed
def _sums(bank: Any, width: int, n: int) -> int:
    return of(bank.sums, n, bank.count, width)


@compiled_for_speed
def _copy_dense(whole: int, dense: int, bank: Any, width: int, groups: Any, out: bool) -> None:
    """Copies the rows of no group out of a whole matrix (D, H), or back into it."""
    row, done = width * FLOAT, 0
    for g in range(len(groups) + 1):
        end = groups[g].start if g < len(groups) else bank.whole
        a, b = matrix(whole + done * row, 1, (end - done) * width), matrix(dense, 1, (end - done) * width)
        if out:
            b[:] = a
        else:
            a[:] = b
        dense += (end - done) * row
        done = end + groups[g].width if g < len(groups) else end
