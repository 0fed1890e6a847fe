"""Numbers in bins: against the formula by loops, at its corners, and what a linear layer makes of them."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from funnelcast.data.encoder import InputSpec
from funnelcast.data.numeric import Piecewise
from funnelcast.layers.numbers import Numbers
from tests.layers.reference import has_derivatives

BIN_EDGES = {"age": (-1.5, -0.5, 0.0, 0.1, 2.0), "price": (0.25, 4.0)}
INPUTS = InputSpec((), {}, ("hour", "age", "price"), bin_edges=BIN_EDGES)


def by_loops(row: list[float]) -> list[float]:
    found = []
    for name, x in zip(INPUTS.numeric, row, strict=True):
        bin_edges = BIN_EDGES.get(name)
        if bin_edges is None:
            found.append(x)
            continue
        for low, high in pairwise(bin_edges):
            found.append(0.0 if x <= low else 1.0 if x >= high else (x - low) / (high - low))
    return found


def test_bins_are_filled_from_the_lowest_on() -> None:
    numbers = Numbers(INPUTS).double()
    x = 2 * torch.randn(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[0], x[1], x[2] = torch.tensor([-1e30] * 3), torch.tensor([1e30] * 3), torch.tensor([0.0, -0.5, 0.25])
    expected = torch.tensor([by_loops(row) for row in x.tolist()], dtype=torch.float64)
    torch.testing.assert_close(numbers(x), expected, rtol=1e-6, atol=1e-7)  # edges are float32
    assert numbers.widths == {"hour": 1, "age": 4, "price": 1} and numbers.width == 6
    assert has_derivatives(lambda rows: numbers(rows).square().sum(1), [x[3:20]])


def test_numbers_without_bins_are_handed_on() -> None:
    x = torch.randn(5, 2)
    assert Numbers(InputSpec((), {}, ("a", "b")))(x) is x


@pytest.mark.parametrize("edges", [(), (3.0,), (3.0, 3.0 + 1e-12)])
def test_a_constant_is_one_number_that_is_0(edges: tuple[float, ...]) -> None:
    transform = Piecewise(mean=2, std=1, edges=edges)
    numbers = Numbers(InputSpec((), {}, ("x",), bin_edges={"x": transform.bin_edges}))
    assert numbers(torch.tensor([[-1e38], [0.0], [7.0]])).tolist() == [[0.0]] * 3


@pytest.mark.parametrize("edges", [(0.0, 1e-45, 1.0), (-3e38, 0.0, 3e38), (0.0, 1e308)])
def test_bins_of_any_length_give_shares(edges: tuple[float, ...]) -> None:
    transform = Piecewise(mean=0, std=1, edges=edges)
    x = torch.tensor(np.array([transform(np.array([v]))[0] for v in (-1e300, 0.0, 1e-45, 0.5, 3e38, 1e300)])[:, None])
    found: Any = Numbers(InputSpec((), {}, ("x",), bin_edges={"x": transform.bin_edges}))(x)
    assert ((found >= 0) & (found <= 1)).all() and all(map(math.isfinite, found.flatten().tolist()))
