"""The loop over a bank that differentiates its gradient, network by network, while that is in cache.

With a_0 = x, δ_i the gradient before the bias, ReLU and dropout of layer i, and U_i and u_i gradients of those that its
weight and bias were given, the gradient e_i of δ_i goes forward as δ_i went back:

    e_i = mask_i (a_{i-1} U_i + u_i + e_{i-1} W_i)

It adds e_{i-1}ᵀ δ_i to that of W_i, and δ_i U_iᵀ to that of a_{i-1}. ReLU's own second derivative is 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funnelcast.compiled import compiled_for_speed
from funnelcast.layers.kernels import BLOCK
from funnelcast.layers.kernels_repeats import (
    add_tables,
    add_to_sums,
    add_to_vectors,
    begin_sums,
    join,
    make_tables,
    rows_of,
)
from funnelcast.layers.mixing import begin_mix, mix
from funnelcast.layers.products import NOTHING, matrix, of, pack, times, turned_times
from funnelcast.layers.tiles import FLOAT


@compiled_for_speed
def backward_twice(banks: Any, layers: Any, seen: Any, first: Any, groups: Any) -> None:
    """From the gradients `turn_…` of what `backward` filled: `turn_grad` and `grad_gates`, and of `grad_x`, every
    `toward` and `grad_weight` that part which does not lead through the outputs. `backward` adds the rest, given
    `toward`, `before` and `before_gates`. ReLU's own second derivative is 0.
    """
    bank = banks[0]
    rows, last = bank.rows, len(layers) - 1
    e: Any = np.int64(0)  # the gradient of what `backward` had for a layer's output
    if not (bank.turn_x or layers[last].turn_weight):
        _of_gates(bank, layers[last], seen, first)
        return
    if bank.columns:
        begin_mix(bank, bank.turn_grad, 0, rows, layers[last].width)
    for n in range(bank.networks):
        before: Any = bank.turn_x + n * bank.turn_x_step if bank.turn_x else np.int64(0)
        for i in range(len(layers)):
            layer = layers[i]
            k, width = layer.width_in, layer.width
            e = bank.scratch + i % 2 * bank.scratch_step
            delta = of(layer.delta, n, rows, width)
            if layer.turn_weight:
                turn = rows_of(bank, layer, layer.turn_weight, groups, n, i)
                x = of(layers[i - 1].output, n, rows, k) if i else bank.x + n * bank.x_step
                _pack_and_multiply(bank, x, turn, e, rows, k, width, NOTHING)
                if i:
                    toward = of(layers[i - 1].toward, n, rows, k)
                    _turn_and_multiply(bank, delta, turn, toward, rows, width, k, NOTHING)
                elif bank.grad_x:
                    keep = 1 if n > 0 and bank.grad_x_step == 0 else 0
                    grad_x = bank.grad_x + n * bank.grad_x_step
                    _turn_and_multiply(bank, delta, turn, grad_x, rows, width, k, keep)
                if i == 0 and len(groups):
                    _turn_tables(bank, layer, e, delta, groups, n)
            if before:
                keep = 1 if layer.turn_weight else 0
                _pack_and_multiply(bank, before, of(layer.weight, n, k, width), e, rows, k, width, keep)
                turned_times(before, delta, of(layer.grad_weight, n, k, width), k, rows, width, 0, bank.room, 0)
            _mask(e, n, rows, layer)
            before = e
        if bank.columns:
            _mix_twice(bank, layers[last], n, e, 0, rows, seen[first[n] : first[n + 1]])
        else:
            width = layers[last].width
            matrix(of(bank.turn_grad, n, rows, width), rows, width)[:] = matrix(e, rows, width)
    join(bank, layers[0].width_in, groups)


@compiled_for_speed
def _turn_tables(bank: Any, layer: Any, e: int, delta: int, groups: Any, n: int) -> None:
    """What the first layer's two products lack where vectors repeat."""
    make_tables(bank, layer, layer.turn_weight, groups, n)
    add_tables(bank, e, n, 0, bank.rows, layer.width, groups)
    if bank.grad_x:
        begin_sums(bank, layer.width, groups)
        add_to_sums(bank, delta, 0, bank.rows, layer.width, groups)
        add_to_vectors(bank, layer, layer.turn_weight, groups, n)


@compiled_for_speed
def _pack_and_multiply(bank: Any, x: int, w: int, y: int, rows: int, k: int, columns: int, keep: int) -> None:
    """Y = X W + keep · Y."""
    pack(w, columns * FLOAT, FLOAT, k, columns, bank.packed)
    times(x, bank.packed, y, rows, k, columns, keep, bank.room, 0)


@compiled_for_speed
def _turn_and_multiply(bank: Any, g: int, w: int, x: int, rows: int, k: int, columns: int, keep: int) -> None:
    """X = G Wᵀ + keep · X, of W (columns, k)."""
    pack(w, FLOAT, k * FLOAT, k, columns, bank.packed)
    times(g, bank.packed, x, rows, k, columns, keep, bank.room, 0)


@compiled_for_speed
def _mask(e: int, n: int, rows: int, layer: Any) -> None:
    """In place, the gradient of the gradient before `_deactivate` from that after it."""
    width, scale, slope = layer.width, layer.scale, layer.slope
    g, y = matrix(e, rows, width), matrix(of(layer.output, n, rows, width), rows, width)
    if layer.turn_bias:
        bias = matrix(of(layer.turn_bias, n, 1, width), 1, width)
        for r in range(rows):
            for j in range(width):
                g[r, j] += bias[0, j]
    for r in range(rows):
        for j in range(width):
            value = g[r, j] * scale
            g[r, j] = value * slope if y[r, j] <= 0 else value


@compiled_for_speed
def _of_gates(bank: Any, layer: Any, seen: Any, first: Any) -> None:
    """`backward_twice` where only gates' gradients were differentiated, a block at a time."""
    for start in range(0, bank.rows, BLOCK):
        rows = min(BLOCK, bank.rows - start)
        begin_mix(bank, bank.turn_grad, start, rows, layer.width)
        for n in range(bank.networks):
            _mix_twice(bank, layer, n, NOTHING, start, rows, seen[first[n] : first[n + 1]])


@compiled_for_speed
def _mix_twice(bank: Any, layer: Any, n: int, e: int, start: int, rows: int, seen: Any) -> None:
    """Adds to `turn_grad` of a block, and fills `grad_gates`: `e` (B, H) and `turn_gates` are the gradients of what
    `unmix` made; `e` is 0 where nobody asked for one."""
    width, skipped = layer.width, start * layer.width * FLOAT
    if bank.turn_gates:
        y = of(layer.output, n, bank.rows, width) + skipped
        mix(bank, bank.turn_gates, bank.turn_grad, y, start, rows, width, seen)
    if e:
        mix(bank, bank.gates, bank.turn_grad, e + skipped, start, rows, width, seen)
        g, grad_gates = matrix(e + skipped, rows, width), matrix(bank.grad_gates, bank.rows, bank.columns)
        for s in range(len(seen)):
            grad = matrix(of(bank.grad, seen[s].step, bank.rows, width) + skipped, rows, width)
            for r in range(rows):
                product = np.float32(0)
                for j in range(width):
                    product += grad[r, j] * g[r, j]
                grad_gates[start + r, seen[s].column] = product
