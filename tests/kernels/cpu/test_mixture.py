"""Mixtures by gates and rows of tables against numpy's in float64, for rows of any length."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from funnelcast.compiled import compiled
from funnelcast.layers.mixing import mix, unmix
from funnelcast.layers.records import BANK, LAYER, SEEN
from funnelcast.layers.tables import add_rows, add_rows_and_rectify, add_to_rows
from funnelcast.layers.tiles import LANES

WIDTHS = [1, LANES - 1, LANES, 8 * LANES, 11 * LANES + 3]
ROWS, BEGIN, BLOCK = 9, 2, 5
SEES = [(1, 3), (0, 0)]
"""Steps that see the network, and the gates' columns."""
Matrix = NDArray[np.float32]


def drawn(seed: int, *shape: int) -> Matrix:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@compiled
def mix_block(banks: Any, output: int, width: int, seen: Any) -> None:
    mix(banks[0], banks[0].gates, banks[0].mixed, output, BEGIN, BLOCK, width, seen)


@compiled
def unmix_block(banks: Any, layers: Any, to: int, seen: Any) -> None:
    unmix(banks[0], layers[0], 1, to, BEGIN, BLOCK, seen)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_mixture(width: int) -> None:
    own = slice(BEGIN, BEGIN + BLOCK)
    y, gates, mixed = drawn(0, BLOCK, width), drawn(1, ROWS, 4), drawn(2, 2, ROWS, width)
    bank, expected = np.zeros(1, BANK), mixed.astype(np.float64)
    bank["rows"], bank["columns"], bank["gates"], bank["mixed"] = ROWS, 4, gates.ctypes.data, mixed.ctypes.data
    mix_block(bank, y.ctypes.data, width, np.array(SEES, SEEN))
    for step, column in SEES:
        expected[step, own] += gates[own, column, None] * y
    np.testing.assert_allclose(mixed, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
def test_back_through_a_mixture(width: int, wanted: bool, again: bool) -> None:
    """Of the second of two networks; without `wanted`, by its gates alone; `again`, after a gradient before."""
    own = slice(BEGIN, BEGIN + BLOCK)
    y, before, grad = drawn(0, 2, ROWS, width), drawn(1, 2, ROWS, width), drawn(2, 2, ROWS, width)
    before_gates = drawn(7, ROWS, 4)
    gates, grad_gates, bias, to = drawn(3, ROWS, 4), drawn(4, ROWS, 4), drawn(5, 2, width), drawn(6, BLOCK, width)
    by_gates, by_bias, expected = (each.astype(np.float64) for each in (grad_gates, bias, to))
    bank, layer = np.zeros(1, BANK), np.zeros(1, LAYER)
    bank["rows"], bank["columns"], bank["gates"] = ROWS, 4, gates.ctypes.data
    bank["grad"], bank["grad_gates"] = grad.ctypes.data, grad_gates.ctypes.data
    layer["width"], layer["output"], layer["grad_bias"], layer["scale"] = width, y.ctypes.data, bias.ctypes.data, 1.25
    bank["before"], bank["before_gates"] = (before.ctypes.data, before_gates.ctypes.data) if again else (0, 0)
    unmix_block(bank, layer, to.ctypes.data if wanted else 0, np.array(SEES, SEEN))
    for step, column in SEES:
        by_gates[own, column] = (y[1, own].astype(np.float64) * grad[step, own]).sum(1)
    if wanted:
        pairs = [(gates, grad)] + [(before_gates, before)] * again
        total = sum(w[own, column, None].astype(np.float64) * g[step, own] for step, column in SEES for w, g in pairs)
        expected = np.where(y[1, own] <= 0, 0, 1.25 * total)
        by_bias[1] += expected.sum(0)
    for found, wished in ((grad_gates, by_gates), (bias, by_bias), (to, expected)):
        np.testing.assert_allclose(found, wished, rtol=1e-5, atol=1e-5)


@compiled
def add(kind: int, own: int, codes: int, table: int, count: int, width: int, bias: int, slope: Any) -> None:
    if kind == 0:
        add_rows(own, codes, table, count, width)
    elif kind == 1:
        add_rows_and_rectify(own, codes, table, count, width, bias, slope)
    else:
        add_to_rows(own, codes, table, count, width)


@pytest.mark.parametrize("width", WIDTHS)
def test_rows_of_a_table(width: int) -> None:
    table, row, bias, codes = drawn(0, 5, width), drawn(1, width), drawn(2, width), np.array([4, 0, 1], np.int32)
    slope, total = np.float32(0.25), row.astype(np.float64) + table[codes].sum(0, dtype=np.float64)
    moved = table.astype(np.float64)
    moved[codes] += row
    expected = [total, np.where(total + bias <= 0, slope * (total + bias), total + bias), row]
    for kind, wished in enumerate(expected):
        own = row.copy()
        addresses = (own.ctypes.data, codes.ctypes.data, table.ctypes.data)
        add(kind, *addresses, len(codes), width, bias.ctypes.data, slope)
        np.testing.assert_allclose(own, wished, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(table, moved, rtol=1e-6)
