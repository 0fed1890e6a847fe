"""Compiled loops over a bank: a network's activations are made, mixed and differentiated while they are in cache.

Matrices are float32, row-major and given by address, so that one compilation serves banks of any depth.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from funnelcast.compiled import compiled_for_speed
from funnelcast.layers.blas import FLOAT, matrix, multiply, multiply_by_turned, multiply_turned, shorts

LAYER: Final = np.dtype([(name, np.int64) for name in (
    "width_in", "width",
    "weight", "bias",  # (N, width_in, width), (N, width)
    "output",  # (N, B, width)
    "draws", "limit",  # of dropout: (N, B, width) int16; 0 without it
    "grad_weight", "grad_bias",  # (N, width_in, width), (N, width)
    "delta",  # (N, B, width): the gradient before bias, ReLU and dropout, kept for a second derivative
    "toward",  # (N, B, width): a gradient of the output from elsewhere
    "turn_weight", "turn_bias",  # a gradient of `grad_weight` and `grad_bias`
)] + [("scale", np.float32)])  # fmt: skip
"""A layer of all networks. What is not needed is 0."""

BANK: Final = np.dtype([(name, np.int64) for name in (
    "sgemm", "networks", "rows",
    "x", "x_step",  # (B, width_in), and the bytes from one network's to the next one's; 0 where they share it
    "gates", "columns",  # (B, K); K is 0 without gates
    "mixed",  # (T, B, H), zeros
    "grad",  # (T, B, H) of the mixture, or (N, B, H) of the last outputs
    "grad_x", "grad_x_step", "grad_gates",
    "turn_x", "turn_x_step", "turn_gates", "turn_grad",  # a gradient of the three above; that of `grad`
    "scratch", "scratch_step",  # two spaces for (B, widest layer), and the bytes between them
)])  # fmt: skip
"""A call: what is not needed is 0."""

SEEN: Final = np.dtype([("step", np.int64), ("column", np.int64)])
"""A step that sees a network, and the column of its gate weight."""

SHORT: Final = 2  # bytes


@compiled_for_speed
def forward(banks: Any, layers: Any, seen: Any, first: Any) -> None:
    """Fills every layer's `output` and, with gates, `mixed`. `seen` (K,) by network, those of n from `first[n]` on."""
    bank = banks[0]
    rows, last = bank.rows, len(layers) - 1
    for n in range(bank.networks):
        x = bank.x + n * bank.x_step
        for i in range(len(layers)):
            layer = layers[i]
            k, width = layer.width_in, layer.width
            y = of(layer.output, n, rows, width)
            multiply(bank.sgemm, x, of(layer.weight, n, k, width), y, rows, k, width, 0.0)
            _activate(y, n, rows, layer)
            x = y
        if bank.columns:
            _mix(bank, x, layers[last].width, seen[first[n] : first[n + 1]])


@compiled_for_speed
def backward(banks: Any, layers: Any, seen: Any, first: Any) -> None:
    """Fills `grad_gates` and, of `grad_x`, `delta`, every `grad_weight` and `grad_bias`, what has room."""
    bank = banks[0]
    rows, last = bank.rows, len(layers) - 1
    through = bank.grad_x or layers[last].grad_weight
    for n in range(bank.networks):
        layer = layers[last]
        g = of(layer.delta, n, rows, layer.width) if layer.delta else bank.scratch
        if bank.columns:
            to = g if through else 0
            _unmix(bank, of(layer.output, n, rows, layer.width), to, layer.width, seen[first[n] : first[n + 1]])
        else:
            matrix(g, rows, layer.width)[:] = matrix(of(bank.grad, n, rows, layer.width), rows, layer.width)
        for i in range(last if through else -1, -1, -1):
            layer = layers[i]
            k, width = layer.width_in, layer.width
            if layer.toward:
                _add(of(layer.toward, n, rows, width), g, rows, width)
            _deactivate(g, n, rows, layer)
            if layer.grad_weight:
                x = of(layers[i - 1].output, n, rows, k) if i else bank.x + n * bank.x_step
                multiply_turned(bank.sgemm, x, g, of(layer.grad_weight, n, k, width), k, rows, width)
            weight = of(layer.weight, n, k, width)
            if i:
                kept = layers[i - 1].delta
                before = of(kept, n, rows, k) if kept else bank.scratch + (last - i + 1) % 2 * bank.scratch_step
                multiply_by_turned(bank.sgemm, g, weight, before, rows, width, k, 0.0)
                g = before
            elif bank.grad_x:
                keep = 1.0 if n > 0 and bank.grad_x_step == 0 else 0.0
                multiply_by_turned(bank.sgemm, g, weight, bank.grad_x + n * bank.grad_x_step, rows, width, k, keep)


@compiled_for_speed
def of(address: int, n: int, rows: int, columns: int) -> int:
    """Where network n's matrix (rows, columns) of floats begins."""
    return address + n * rows * columns * FLOAT


@compiled_for_speed
def _activate(output: int, n: int, rows: int, layer: Any) -> None:
    """y = dropout(relu(y + bias))."""
    width, limit, scale = layer.width, layer.limit, layer.scale
    y, bias = matrix(output, rows, width), matrix(of(layer.bias, n, 1, width), 1, width)
    if layer.draws:
        draws = shorts(layer.draws + n * rows * width * SHORT, rows, width)
        for r in range(rows):
            for j in range(width):
                value = y[r, j] + bias[0, j]
                y[r, j] = np.float32(0) if value <= 0 or draws[r, j] < limit else value * scale
    else:
        for r in range(rows):
            for j in range(width):
                value = y[r, j] + bias[0, j]
                y[r, j] = np.float32(0) if value <= 0 else value


@compiled_for_speed
def _deactivate(grad: int, n: int, rows: int, layer: Any) -> None:
    """In place, the gradient before bias, ReLU and dropout from that after them; and the bias's.

    An output of 0 tells that the number fell away. In place, as loops that might overlap are not vectorised.
    """
    width, scale = layer.width, layer.scale
    g, y = matrix(grad, rows, width), matrix(of(layer.output, n, rows, width), rows, width)
    bias = matrix(of(layer.grad_bias, n, 1, width), 1, width)
    for j in range(width):
        bias[0, j] = 0
    for r in range(rows):
        for j in range(width):
            value = g[r, j] * scale
            value = np.float32(0) if y[r, j] <= 0 else value
            g[r, j] = value
            bias[0, j] += value


@compiled_for_speed
def _mix(bank: Any, output: int, width: int, seen: Any) -> None:
    """Adds a network's output, times its gate weight, to the mixture of each step that sees it."""
    rows = bank.rows
    y, gates = matrix(output, rows, width), matrix(bank.gates, rows, bank.columns)
    for s in range(len(seen)):
        mixed, column = matrix(of(bank.mixed, seen[s].step, rows, width), rows, width), seen[s].column
        for r in range(rows):
            weight = gates[r, column]
            for j in range(width):
                mixed[r, j] += weight * y[r, j]


@compiled_for_speed
def _unmix(bank: Any, output: int, to: int, width: int, seen: Any) -> None:
    """The gradients of a network's gate weights, and unless `to` is 0 that of its output."""
    rows = bank.rows
    y, g = matrix(output, rows, width), matrix(to, rows, width)
    gates, grad_gates = matrix(bank.gates, rows, bank.columns), matrix(bank.grad_gates, rows, bank.columns)
    for s in range(len(seen)):
        grad, column = matrix(of(bank.grad, seen[s].step, rows, width), rows, width), seen[s].column
        for r in range(rows):
            weight, product = gates[r, column], np.float32(0)
            for j in range(width):
                product += grad[r, j] * y[r, j]
            grad_gates[r, column] = product
            if not to:
                continue
            if s:
                for j in range(width):
                    g[r, j] += weight * grad[r, j]
            else:
                for j in range(width):
                    g[r, j] = weight * grad[r, j]


@compiled_for_speed
def _add(x: int, to: int, rows: int, width: int) -> None:
    """to += x."""
    a, b = matrix(x, rows, width), matrix(to, rows, width)
    for r in range(rows):
        for j in range(width):
            b[r, j] += a[r, j]
