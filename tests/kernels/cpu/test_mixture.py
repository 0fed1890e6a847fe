"""Kernels of mixtures by gates and of rows of tables against numpy in float64, for rows of any length."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from funnelcast.compiled import compiled
from funnelcast.kernels.cpu.codegen import LANES
from funnelcast.kernels.cpu.mixture import begin_mixture, mix, unmix
from funnelcast.kernels.cpu.records import BANK, EDGE, LAYER
from funnelcast.kernels.cpu.rows import add_rows, add_rows_bias_relu, add_to_rows

WIDTHS = [1, LANES - 1, LANES, 8 * LANES, 11 * LANES + 3]
ROWS, BEGIN, BLOCK = 9, 2, 5
EDGES = [(1, 3), (0, 0)]
"""Steps that see the network, and the columns of their gates."""
Matrix = NDArray[np.float32]


def drawn(seed: int, *shape: int) -> Matrix:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@compiled
def mix_block(banks: Any, output: int, width: int, edges: Any, begins: int) -> None:
    if begins:
        begin_mixture(banks[0], BEGIN, BLOCK, width)
    mix(banks[0], output, BEGIN, BLOCK, width, edges)


@compiled
def unmix_block(banks: Any, layers: Any, to: int, edges: Any) -> None:
    unmix(banks[0], layers[0], 1, to, BEGIN, BLOCK, edges)


@pytest.mark.parametrize("begins", [0, 1])
@pytest.mark.parametrize("width", WIDTHS)
def test_a_mixture(width: int, begins: int) -> None:
    """Added to what networks before have put in, or begun with; other rows stay."""
    own = slice(BEGIN, BEGIN + BLOCK)
    y, gates, mixture = drawn(0, BLOCK, width), drawn(1, ROWS, 4), drawn(2, 2, ROWS, width)
    bank, expected = np.zeros(1, BANK), mixture.astype(np.float64)
    bank["rows"], bank["columns"], bank["gates"], bank["mixture"] = ROWS, 4, gates.ctypes.data, mixture.ctypes.data
    bank["steps"] = 2
    mix_block(bank, y.ctypes.data, width, np.array(EDGES, EDGE), begins)
    expected[:, own] *= 1 - begins
    for step, column in EDGES:
        expected[step, own] += gates[own, column, None] * y
    np.testing.assert_allclose(mixture, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("slope", [0.0, 0.2])
@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
def test_backward_through_a_mixture(width: int, through: bool, slope: float) -> None:
    """Of the second of two networks; without `through`, by its gates alone."""
    own = slice(BEGIN, BEGIN + BLOCK)
    y, grad = drawn(0, 2, ROWS, width), drawn(2, 2, ROWS, width)
    gates, grad_gates, bias, to = drawn(3, ROWS, 4), drawn(4, ROWS, 4), drawn(5, 2, width), drawn(6, BLOCK, width)
    by_gates, by_bias, expected = (each.astype(np.float64) for each in (grad_gates, bias, to))
    bank, layer = np.zeros(1, BANK), np.zeros(1, LAYER)
    bank["rows"], bank["columns"], bank["gates"] = ROWS, 4, gates.ctypes.data
    bank["grad"], bank["grad_gates"] = grad.ctypes.data, grad_gates.ctypes.data
    layer["width"], layer["output"], layer["grad_bias"] = width, y.ctypes.data, bias.ctypes.data
    layer["scale"], layer["slope"] = 1.25, slope
    unmix_block(bank, layer, to.ctypes.data if through else 0, np.array(EDGES, EDGE))
    for step, column in EDGES:
        by_gates[own, column] = (y[1, own].astype(np.float64) * grad[step, own]).sum(1)
    if through:
        total = sum(gates[own, column, None].astype(np.float64) * grad[step, own] for step, column in EDGES)
        expected = np.where(y[1, own] <= 0, slope, 1) * 1.25 * total
        by_bias[1] += expected.sum(0)
    for found, right in ((grad_gates, by_gates), (bias, by_bias), (to, expected)):
        np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-5)


@compiled
def add(kind: int, own: int, indices: int, table: int, count: int, width: int, bias: int, slope: Any) -> None:
    if kind == 0:
        add_rows(own, indices, table, count, width)
    elif kind == 1:
        add_rows_bias_relu(own, indices, table, count, width, bias, slope)
    else:
        add_to_rows(own, indices, table, count, width)


@pytest.mark.parametrize("width", WIDTHS)
def test_rows_of_a_table(width: int) -> None:
    table, row, bias, indices = drawn(0, 5, width), drawn(1, width), drawn(2, width), np.array([4, 0, 1], np.int32)
    slope, total = np.float32(0.25), row.astype(np.float64) + table[indices].sum(0, dtype=np.float64)
    changed = table.astype(np.float64)
    changed[indices] += row
    expected = [total, np.where(total + bias <= 0, slope * (total + bias), total + bias), row]
    for kind, right in enumerate(expected):
        own = row.copy()
        addresses = (own.ctypes.data, indices.ctypes.data, table.ctypes.data)
        add(kind, *addresses, len(indices), width, bias.ctypes.data, slope)
        np.testing.assert_allclose(own, right, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(table, changed, rtol=1e-6)
