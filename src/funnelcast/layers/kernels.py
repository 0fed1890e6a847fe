"""Compiled loops over a bank: a network's activations are made, mixed and differentiated while they are in cache.

Matrices are float32, row-major and given by address, so that one compilation serves banks of any depth.
"""

from __future__ import annotations

from typing import Any, Final

from funnelcast.compiled import compiled_for_speed
from funnelcast.layers.amx import HAS_AMX
from funnelcast.layers.few_rows import is_read_once, shared_columns, times_in_place
from funnelcast.layers.halves import (
    is_whole,
    pack_pairs,
    pack_turned_pairs,
    pair_columns,
    pair_rows,
    pairs,
    rectify_and_pair,
    turn_pairs,
)
from funnelcast.layers.kernels_dropout import activate_and_drop
from funnelcast.layers.kernels_repeats import (
    add_tables,
    add_tables_and_rectify,
    add_to_sums,
    begin_sums,
    end_sums,
    join,
    make_tables,
    rows_of,
)
from funnelcast.layers.mixing import begin_mix, mix, unmix
from funnelcast.layers.products import (
    NOTHING,
    matrix,
    of,
    pack,
    packed_size,
    times,
    times_and_mask,
    times_and_rectify,
    turned_times,
)
from funnelcast.layers.tiles import FLOAT, LANES

BLOCK: Final = 192
"""Rows that go through all layers of a network at a time, so that they stay in the cache."""


@compiled_for_speed
def forward(banks: Any, layers: Any, seen: Any, first: Any, groups: Any) -> None:
    """Fills every layer's `output` and, with gates, `mixed`. `seen` (K,) by network, those of n from `first[n]` on;
    `groups` of fields that repeat."""
    bank = banks[0]
    last = len(layers) - 1
    packed = bank.packed
    for n in range(bank.networks):
        for i in range(len(layers)):
            k, width = layers[i].width_in, layers[i].width
            if bank.half:
                pack_pairs(rows_of(bank, layers[i], layers[i].weight, groups, n, i), k, width, packed)
            elif not is_read_once(bank, width):
                w = rows_of(bank, layers[i], layers[i].weight, groups, n, i)
                pack(w, width * FLOAT, FLOAT, k, width, packed)
            packed += packed_size(depth_of(bank, k), width)
        make_tables(bank, layers[0], layers[0].weight, groups, n)
    shared = shared_columns(bank, layers[0].width_in)
    for start in range(0, bank.rows, BLOCK):
        rows, packed = min(BLOCK, bank.rows - start), bank.packed
        if bank.columns:
            begin_mix(bank, bank.mixed, start, rows, layers[last].width)
        for n in range(bank.networks):
            x, k = bank.x + n * bank.x_step + start * layers[0].width_in * FLOAT, layers[0].width_in
            operand = bank.paired + bank.paired_step if bank.half else x
            if bank.half and (n == 0 or bank.x_step):
                pair_columns(x, rows, k, operand)
            for i in range(len(layers)):
                operand = _through(bank, layers, n, i, start, rows, operand, packed, shared, groups)
                packed += packed_size(depth_of(bank, layers[i].width_in), layers[i].width)
            if bank.columns:
                own = seen[first[n] : first[n + 1]]
                mix(bank, bank.gates, bank.mixed, operand, start, rows, layers[last].width, own)


@compiled_for_speed
def _through(
    bank: Any, layers: Any, n: int, i: int, start: int, rows: int, x: int, packed: int, shared: int, groups: Any
) -> Any:  # fmt: skip
    """Takes a block through a layer, and returns it as the operand of the next one, as x is of this one."""
    layer = layers[i]
    k, width, slope = depth_of(bank, layer.width_in), layer.width, layer.slope
    y, bias = layer.output + n * layer.output_step + start * layer.output_row, of(layer.bias, n, 1, width)
    repeats, at_once = i == 0 and len(groups) > 0, not bank.half and not layer.seeds and width % LANES == 0
    if is_read_once(bank, width):
        w, once, left_out = of(layer.weight, n, k, width), 0, groups[:0]
        if i == 0:
            w, once, left_out = of(layer.weight, n, bank.whole, width), shared, groups
        times_in_place(x, w, y, rows, k, width, once, bank.room, bank.half, left_out)
    elif at_once and not repeats:
        times_and_rectify(x, packed, y, rows, k, width, bias, slope)
        return y
    else:
        times(x, packed, y, rows, k, width, NOTHING, bank.room, bank.half)
    if repeats and at_once:
        add_tables_and_rectify(bank, y, n, start, rows, width, groups, bias, slope)
        return y
    if repeats:
        add_tables(bank, y, n, start, rows, width, groups)
    return _activated(bank, y, n, start, rows, layer, i < len(layers) - 1)


@compiled_for_speed
def backward(banks: Any, layers: Any, seen: Any, first: Any, groups: Any) -> None:
    """Fills `grad_gates` and, of `grad_x`, `delta`, every `grad_weight` and `grad_bias`, what has room."""
    bank = banks[0]
    last = len(layers) - 1
    through = bank.grad_x or layers[last].grad_weight
    for n in range(bank.networks):
        if through:
            _begin(bank, layers, groups, n)
        for start in range(0, bank.rows, BLOCK):
            rows, packed = min(BLOCK, bank.rows - start), bank.packed
            layer = layers[last]
            g = _delta(bank, layer, n, start, 0)
            if bank.columns:
                unmix(bank, layer, n, g if through else 0, start, rows, seen[first[n] : first[n + 1]])
            elif through:
                grad = of(bank.grad, n, bank.rows, layer.width) + start * layer.width * FLOAT
                matrix(g, rows, layer.width)[:] = matrix(grad, rows, layer.width)
                _deactivate(g, n, start, rows, bank.rows, layer)
            for i in range(last if through else -1, -1, -1):
                layer, before = layers[i], g
                k, width = layer.width_in, layer.width
                if i:
                    before = _delta(bank, layers[i - 1], n, start, (last - i + 1) % 2)
                    packed = _back(bank, g, packed, before, n, start, rows, width, layers[i - 1])
                elif bank.grad_x:
                    keep = 1 if bank.adds_x or (n > 0 and bank.grad_x_step == 0) else 0
                    to = bank.grad_x + n * bank.grad_x_step + start * k * FLOAT
                    product(bank, g, packed, to, rows, width, k, keep)
                if i == 0:
                    add_to_sums(bank, g, start, rows, width, groups)
                if layer.grad_weight:
                    x = of(layers[i - 1].output, n, bank.rows, k) if i else bank.x + n * bank.x_step
                    to = bank.first_grad if i == 0 and len(groups) else of(layer.grad_weight, n, k, width)
                    later = 1 if start or layer.adds else 0
                    turned_product(bank, x + start * k * FLOAT, g, to, k, rows, width, later)
                g = before
        if through:
            end_sums(bank, layers[0], groups, n)
    join(bank, layers[0].width_in, groups)


@compiled_for_speed
def _back(bank: Any, g: int, packed: int, to: int, n: int, start: int, rows: int, width: int, layer: Any) -> Any:
    """A block's gradient before a layer's activation, from `g` of the next layer; and where the panels after its weight
    begin."""
    k = layer.width
    if bank.half or layer.toward or k % LANES:
        packed = product(bank, g, packed, to, rows, width, k, NOTHING)
        _deactivate(to, n, start, rows, bank.rows, layer)  # fetches what is turned next
        return packed
    y = of(layer.output, n, bank.rows, k) + start * k * FLOAT
    times_and_mask(g, packed, to, rows, width, k, y, of(layer.grad_bias, n, 1, k), layer.scale, layer.slope)
    return packed + packed_size(width, k)


@compiled_for_speed
def _begin(bank: Any, layers: Any, groups: Any, n: int) -> None:
    """The weights of a network in panels, turned, the last layer's first; and no gradients of biases yet."""
    packed = bank.packed
    begin_sums(bank, layers[0].width, groups)
    for i in range(len(layers) - 1, -1, -1):
        layer = layers[i]
        k, width = layer.width_in, layer.width
        bias = matrix(of(layer.grad_bias, n, 1, width), 1, width)
        for j in range(width):
            bias[0, j] = 0
        if i or bank.grad_x:
            w = rows_of(bank, layer, layer.weight, groups, n, i)
            if bank.half:
                pack_turned_pairs(w, k, width, packed, bank.paired)
            else:
                pack(w, FLOAT, width * FLOAT, width, k, packed)
            packed += packed_size(depth_of(bank, width), k)


@compiled_for_speed
def depth_of(bank: Any, numbers: int) -> Any:
    """How many operands of a product so many numbers are."""
    return pairs(numbers) if bank.half else numbers


@compiled_for_speed
def product(bank: Any, x: int, packed: int, y: int, rows: int, depth: int, columns: int, keep: int) -> Any:
    """Y = X B + keep · Y, and where the panels after B's begin."""
    if bank.half:
        pair_columns(x, rows, depth, bank.paired)
        x, depth = bank.paired, pairs(depth)
    times(x, packed, y, rows, depth, columns, keep, bank.room, bank.half)
    return packed + packed_size(depth, columns)


@compiled_for_speed
def turned_product(bank: Any, x: int, g: int, w: int, rows: int, depth: int, columns: int, keep: int) -> None:
    """W = Xᵀ G + keep · W, of X (depth, rows)."""
    if bank.half:
        if HAS_AMX:
            turn_pairs(x, depth, rows, bank.paired)
        else:
            pair_rows(x, depth, rows, bank.paired)
        pair_rows(g, depth, columns, bank.paired + bank.paired_step)
        x, g, depth = bank.paired, bank.paired + bank.paired_step, pairs(depth)
    turned_times(x, g, w, rows, depth, columns, keep, bank.room, bank.half)


@compiled_for_speed
def _delta(bank: Any, layer: Any, n: int, start: int, turn: int) -> Any:
    """Where a block's gradient before a layer's activation goes: where it is kept, or into a scratch space."""
    if layer.delta:
        return of(layer.delta, n, bank.rows, layer.width) + start * layer.width * FLOAT
    return bank.scratch + turn * bank.scratch_step


@compiled_for_speed
def _activated(bank: Any, y: int, n: int, start: int, rows: int, layer: Any, paired: bool) -> Any:
    """Activates a block, and returns it as the operand of the next product."""
    width = layer.width
    if bank.half and paired and not layer.seeds and is_whole(width):
        rectify_and_pair(y, of(layer.bias, n, 1, width), layer.slope, rows, width, bank.paired)
        return bank.paired
    _activate(bank, y, n, start, rows, layer)
    if bank.half and paired:
        pair_columns(y, rows, width, bank.paired)
        return bank.paired
    return y


@compiled_for_speed
def _activate(bank: Any, output: int, n: int, start: int, rows: int, layer: Any) -> None:
    """y = dropout(relu(y + bias)) of a block."""
    if layer.seeds:
        activate_and_drop(bank, output, n, start, rows, layer)
        return
    width, slope = layer.width, layer.slope
    y, bias = matrix(output, rows, width), matrix(of(layer.bias, n, 1, width), 1, width)
    for r in range(rows):
        for j in range(width):
            value = y[r, j] + bias[0, j]
            y[r, j] = value * slope if value <= 0 else value


@compiled_for_speed
def _deactivate(grad: int, n: int, start: int, rows: int, all_rows: int, layer: Any) -> None:
    """In place, the gradient before bias, ReLU and dropout of a block from that after them, `toward` it included; and
    adds up the bias's.

    An output of 0 tells that the number fell away. In place, as loops that might overlap are not vectorised.
    """
    width, scale, slope = layer.width, layer.scale, layer.slope
    y = matrix(of(layer.output, n, all_rows, width) + start * width * FLOAT, rows, width)
    g, bias = matrix(grad, rows, width), matrix(of(layer.grad_bias, n, 1, width), 1, width)
    if layer.toward:
        _add(of(layer.toward, n, all_rows, width) + start * width * FLOAT, grad, rows, width)
    for r in range(rows):
        for j in range(width):
            value = g[r, j] * scale
            value = value * slope if y[r, j] <= 0 else value
            g[r, j] = value
            bias[0, j] += value


@compiled_for_speed
def _add(x: int, to: int, rows: int, width: int) -> None:
    """to += x."""
    a, b = matrix(x, rows, width), matrix(to, rows, width)
    for r in range(rows):
        for j in range(width):
            b[r, j] += a[r, j]
