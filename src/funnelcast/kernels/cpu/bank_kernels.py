"""Kernels of a bank: a network's activations are made, mixed and differentiated block by block, while in cache.

Matrices are float32, row-major and given by address, so that one compilation serves banks of any depth.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from funnelcast.compiled import compiled_for_speed, helper
from funnelcast.kernels.cpu.bf16 import (
    is_whole,
    pack_vnni,
    pack_vnni_transposed,
    relu_to_vnni,
    vnni_by_columns,
    vnni_by_rows,
    vnni_words,
)
from funnelcast.kernels.cpu.codegen import FLOAT, LANES
from funnelcast.kernels.cpu.dropout import activate_and_drop
from funnelcast.kernels.cpu.gemm import (
    OVERWRITE,
    copy_rows,
    gemm,
    gemm_bias_relu,
    gemm_mask,
    gemm_tn,
    matrix,
    of,
    pack,
    packed_size,
)
from funnelcast.kernels.cpu.mixture import begin_mixture, mix, unmix
from funnelcast.kernels.cpu.outlined import outlined
from funnelcast.kernels.cpu.rows import add_rows, add_rows_bias_relu, add_to_rows

BLOCK: Final = 192
"""Rows that go through all layers of a network at a time, so that they stay in cache."""


@compiled_for_speed
def forward(banks: Any, layers: Any, edges: Any, first: Any) -> None:
    """Fill every layer's `output` and, with gates, `mixture`. edges (K,): by network, those of n from `first[n]` on."""
    bank = banks[0]
    last = len(layers) - 1
    packed = bank.packed
    for n in range(bank.networks):
        for i in range(len(layers)):
            k, width = layers[i].width_in, layers[i].width
            w = of(layers[i].weight, n, k, width)
            if bank.bf16:
                pack_vnni(w, k, width, packed)
            else:
                pack(w, width * FLOAT, FLOAT, k, width, packed)
            packed += packed_size(depth_of(bank, k), width)
    for start in range(0, bank.rows, BLOCK):
        rows, packed = min(BLOCK, bank.rows - start), bank.packed
        if bank.columns:
            begin_mixture(bank, start, rows, layers[last].width)
        for n in range(bank.networks):
            x, k = bank.x + n * bank.x_step + start * layers[0].width_in * FLOAT, layers[0].width_in
            operand = bank.vnni + bank.vnni_step if bank.bf16 else x
            if bank.bf16 and (n == 0 or bank.x_step):
                vnni_by_columns(x, rows, k, operand)
            for i in range(len(layers)):
                operand = _through(bank, layers, n, i, start, rows, operand, packed)
                packed += packed_size(depth_of(bank, layers[i].width_in), layers[i].width)
            if bank.columns:
                mix(bank, operand, start, rows, layers[last].width, edges[first[n] : first[n + 1]])


@helper
def _through(bank: Any, layers: Any, n: int, i: int, start: int, rows: int, x: int, packed: int) -> Any:
    """Take a block through a layer, and return it as the operand of the next one, as x is of this one."""
    layer = layers[i]
    k, width, slope = depth_of(bank, layer.width_in), layer.width, layer.slope
    y, bias = layer.output + n * layer.output_step + start * layer.output_row, of(layer.bias, n, 1, width)
    looks_up, at_once = i == 0 and bank.groups > 0, not bank.bf16 and not layer.seeds and width % LANES == 0
    if at_once and not looks_up:
        gemm_bias_relu(x, packed, y, rows, k, width, bias, slope)
        return y
    gemm(x, packed, y, rows, k, width, OVERWRITE, bank.gemm_scratch, bank.bf16)
    if looks_up:
        tables, step = of(bank.tables, n, bank.table_rows, width), bank.groups * FLOAT
        for r in range(rows):
            inverse, row = bank.inverse + (start + r) * step, y + r * width * FLOAT
            if at_once:
                add_rows_bias_relu(row, inverse, tables, bank.groups, width, bias, np.float32(slope))
            else:
                add_rows(row, inverse, tables, bank.groups, width)
        if at_once:
            return y
    return _activated(bank, y, n, start, rows, layer, i < len(layers) - 1)


@compiled_for_speed
def backward(banks: Any, layers: Any, edges: Any, first: Any) -> None:
    """Fill `grad_x`, `grad_gates`, `grad_tables`, every `grad_weight` and `grad_bias`, where there is a buffer."""
    bank = banks[0]
    last = len(layers) - 1
    through = bank.grad_x or layers[last].grad_weight
    for n in range(bank.networks):
        if through:
            _begin_backward(bank, layers, n)
        for start in range(0, bank.rows, BLOCK):
            rows, packed = min(BLOCK, bank.rows - start), bank.packed
            layer, g = layers[last], bank.scratch
            if bank.columns:
                unmix(bank, layer, n, g if through else 0, start, rows, edges[first[n] : first[n + 1]])
            elif through:
                grad = of(bank.grad, n, bank.rows, layer.width) + start * layer.width * FLOAT
                copy_rows(grad, g, rows, layer.width)
                _activation_backward(g, n, start, rows, bank.rows, layer)
            for i in range(last if through else -1, -1, -1):
                layer, before = layers[i], g
                k, width = layer.width_in, layer.width
                if i:
                    before = bank.scratch + (last - i + 1) % 2 * bank.scratch_step
                    packed = _to_layer_before(bank, g, packed, before, n, start, rows, width, layers[i - 1])
                elif bank.grad_x:
                    beta = 1 if n > 0 and bank.grad_x_step == 0 else 0
                    to = bank.grad_x + n * bank.grad_x_step + start * k * FLOAT
                    product(g, packed, to, rows, width, k, beta, bank.gemm_scratch, bank.vnni, bank.bf16)
                if i == 0 and bank.groups:
                    _add_to_tables(bank, g, n, start, rows, width)
                if layer.grad_weight:
                    x = of(layers[i - 1].output, n, bank.rows, k) if i else bank.x + n * bank.x_step
                    to = of(layer.grad_weight, n, k, width)
                    product_tn(
                        x + start * k * FLOAT, g, to, k, rows, width, 1 if start else 0, bank.gemm_scratch, bank.vnni,
                        bank.vnni_step, bank.bf16,
                    )  # fmt: skip
                g = before


@helper
def _to_layer_before(
    bank: Any, g: int, packed: int, to: int, n: int, start: int, rows: int, width: int, layer: Any
) -> Any:  # fmt: skip
    """A block's gradient before a layer's activation, from `g` of the next layer; and where the panels after its weight
    begin."""
    k = layer.width
    if bank.bf16 or k % LANES:
        product(g, packed, to, rows, width, k, OVERWRITE, bank.gemm_scratch, bank.vnni, bank.bf16)
        _activation_backward(to, n, start, rows, bank.rows, layer)
        return packed + packed_size(depth_of(bank, width), k)
    y = of(layer.output, n, bank.rows, k) + start * k * FLOAT
    gemm_mask(g, packed, to, rows, width, k, y, of(layer.grad_bias, n, 1, k), layer.scale, layer.slope)
    return packed + packed_size(width, k)


@helper
def _begin_backward(bank: Any, layers: Any, n: int) -> None:
    """Pack the transposed weights of a network, the last layer's first, and set the gradients of its biases to 0."""
    packed = bank.packed
    for i in range(len(layers) - 1, -1, -1):
        layer = layers[i]
        k, width = layer.width_in, layer.width
        bias = matrix(of(layer.grad_bias, n, 1, width), 1, width)
        for j in range(width):
            bias[0, j] = 0
        if i or bank.grad_x:
            w = of(layer.weight, n, k, width)
            if bank.bf16:
                pack_vnni_transposed(w, k, width, packed, bank.vnni)
            else:
                pack(w, FLOAT, width * FLOAT, width, k, packed)
            packed += packed_size(depth_of(bank, width), k)


@helper
def _add_to_tables(bank: Any, delta: int, n: int, start: int, rows: int, width: int) -> None:
    """Add a block's gradient to the rows of `grad_tables` that its inverse index names."""
    tables, step = of(bank.grad_tables, n, bank.table_rows, width), bank.groups * FLOAT
    for r in range(rows):
        add_to_rows(delta + r * width * FLOAT, bank.inverse + (start + r) * step, tables, bank.groups, width)


@helper
def depth_of(bank: Any, numbers: int) -> Any:
    """How many operands of a product so many elements are."""
    return vnni_words(numbers) if bank.bf16 else numbers


@outlined(10)
def product(
    x: int, packed: int, y: int, rows: int, depth: int, columns: int, beta: int, scratch: int, vnni: int, bf16: int
) -> None:  # fmt: skip
    """Y = X B + beta · Y; `scratch` and `vnni` as in BANK."""
    if bf16:
        vnni_by_columns(x, rows, depth, vnni)
        x, depth = vnni, vnni_words(depth)
    gemm(x, packed, y, rows, depth, columns, beta, scratch, bf16)


@outlined(11)
def product_tn(
    x: int, g: int, w: int, rows: int, depth: int, columns: int, beta: int, scratch: int, vnni: int, vnni_step: int,
    bf16: int,
) -> None:  # fmt: skip
    """W = Xᵀ G + beta · W, of X (depth, rows); buffers as in BANK."""
    if bf16:
        vnni_by_rows(x, depth, rows, vnni)
        vnni_by_rows(g, depth, columns, vnni + vnni_step)
        x, g, depth = vnni, vnni + vnni_step, vnni_words(depth)
    gemm_tn(x, g, w, rows, depth, columns, beta, scratch, bf16)


@helper
def _activated(bank: Any, y: int, n: int, start: int, rows: int, layer: Any, to_vnni: bool) -> Any:
    """Activate a block, and return it as the operand of the next product."""
    width = layer.width
    if bank.bf16 and to_vnni and not layer.seeds and is_whole(width):
        relu_to_vnni(y, of(layer.bias, n, 1, width), rows, width, bank.vnni, layer.slope)
        return bank.vnni
    if layer.seeds:
        activate_and_drop(
            y, of(layer.bias, n, 1, width), n, start, rows, bank.rows, width, layer.seeds, layer.seed_rows,
            layer.stream, layer.limit, bank.draws, layer.scale, layer.slope,
        )  # fmt: skip
    else:
        _activate(y, n, rows, layer)
    if bank.bf16 and to_vnni:
        vnni_by_columns(y, rows, width, bank.vnni)
        return bank.vnni
    return y


@helper
def _activate(output: int, n: int, rows: int, layer: Any) -> None:
    """Y = leaky_relu(y + bias) of a block, in place."""
    width, slope = layer.width, layer.slope
    y, bias = matrix(output, rows, width), matrix(of(layer.bias, n, 1, width), 1, width)
    for r in range(rows):
        for j in range(width):
            value = y[r, j] + bias[0, j]
            y[r, j] = value * slope if value <= 0 else value


@helper
def _activation_backward(grad: int, n: int, start: int, rows: int, all_rows: int, layer: Any) -> None:
    """In place, the gradient before bias, activation and dropout of a block from that after them; add up the bias's.

    An output of 0 tells that the element was dropped. In place, as loops that might overlap are not vectorised.
    """
    width, scale, slope = layer.width, layer.scale, layer.slope
    y = matrix(of(layer.output, n, all_rows, width) + start * width * FLOAT, rows, width)
    g, bias = matrix(grad, rows, width), matrix(of(layer.grad_bias, n, 1, width), 1, width)
    for r in range(rows):
        for j in range(width):
            value = g[r, j] * scale
            value = value * slope if y[r, j] <= 0 else value
            g[r, j] = value
            bias[0, j] += value
