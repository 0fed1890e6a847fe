"""References of operations that are plain formulas: softmaxes of gates, logits, linear layers and mixtures."""

import numpy as np
import pytest
import torch
from torch import Tensor

from funnelcast import ops
from tests.layers.reference import draw, has_derivatives, softmax
from tests.pairs import pairwise


@pytest.mark.parametrize("widths", [[1], [8, 8], [3, 1, 20]])
@pytest.mark.parametrize("rows", [0, 1, 30])
def test_a_softmax_for_each_gate(rows: int, widths: list[int]) -> None:
    x = 20 * draw(0, rows, sum(widths))
    found = ops.softmax_gates(x, widths)
    assert found.shape == x.shape
    for row, own in zip(x.tolist(), found.tolist(), strict=True):
        ends = np.cumsum(widths)
        expected = [share for end, width in zip(ends, widths, strict=True) for share in softmax(row[end - width : end])]
        np.testing.assert_allclose(own, expected, rtol=1e-12)


def test_large_logits_and_nan() -> None:
    x = torch.tensor([[1e30, -1e30, 5.0, 5.0], [-np.inf, 0.0, np.nan, 1.0]])
    for widths in ([2, 2], [2, 1, 1]):
        found = ops.softmax_gates(x, widths)
        assert found[0, :2].tolist() == [1, 0] and found[1, :2].tolist() == [0, 1] and found[1, 2].isnan()
    assert ops.softmax_gates(x, [2, 2])[0, 2:].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("widths", [[2, 4], [3, 3]])
def test_columns_that_are_not_contiguous(widths: list[int]) -> None:
    x = draw(0, 6, 50).t()
    assert torch.equal(ops.softmax_gates(x, widths), ops.softmax_gates(x.contiguous(), widths))


@pytest.mark.parametrize(("rows", "width", "steps"), pairwise([0, 1, 30], [1, 5, 32], [1, 2, 5]))
def test_a_logit_for_each_step(rows: int, width: int, steps: int) -> None:
    """Of vectors of its own, or of those that all steps share."""
    x, weight, bias = draw(0, steps, rows, width), draw(1, steps, width, 1), draw(2, steps, 1)
    found, shared = ops.logits(x, weight, bias), ops.logits(x[0], weight, bias)
    assert found.shape == shared.shape == (rows, steps)
    torch.testing.assert_close(found, torch.einsum("tbh,tho->bt", x, weight) + bias.squeeze(1))
    torch.testing.assert_close(shared, torch.einsum("bh,tho->bt", x[0], weight) + bias.squeeze(1))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 3, 5)])
def test_a_linear_layer(shape: tuple[int, ...], relu: bool) -> None:
    x, weight, bias = draw(0, *shape), draw(1, 3, 5), draw(2, 3)
    for own in (bias, None):
        expected = x @ weight.t() + (0 if own is None else own)
        expected = expected.clamp(min=0) if relu else expected
        torch.testing.assert_close(ops.linear(x, weight, own, relu=relu), expected)


EDGES = ((0, 1, 0), (0, 2, 1), (1, 0, 2), (1, 1, 3))


def mixture(x: Tensor, gates: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return ops.expert_mixture(x, [weight], [bias], gates, EDGES, slope=0.1)


def test_a_mixture_is_of_the_experts_that_a_gate_sees() -> None:
    """By column, in any order of edges."""
    x, gates, weight, bias = draw(0, 6, 4), draw(1, 6, 4), draw(2, 3, 4, 5), draw(3, 3, 5)
    outputs = ops.mlp_bank(x, [weight], [bias], slope=0.1)
    expected = torch.zeros(2, 6, 5, dtype=torch.float64)
    for gate, expert, column in EDGES:
        expected[gate] += gates[:, column, None] * outputs[expert]
    torch.testing.assert_close(mixture(x, gates, weight, bias), expected)
    reordered = ops.expert_mixture(x, [weight], [bias], gates, EDGES[::-1], slope=0.1)
    torch.testing.assert_close(reordered, expected)


def test_derivatives() -> None:
    """First and second ones."""
    x, weight, bias = draw(0, 2, 4, 3), draw(1, 2, 3, 1), draw(2, 2, 1)
    assert has_derivatives(lambda *args: ops.logits(*args).square().sum(), [x, weight, bias])
    assert has_derivatives(lambda own: ops.softmax_gates(own, [2, 3]).square().sum(), [draw(3, 4, 5)])
    linear = [draw(4, 4, 5), draw(5, 3, 5), draw(6, 3)]
    assert has_derivatives(lambda *args: ops.linear(*args).square().sum(), linear)
    own = [draw(7, 6, 4), draw(8, 6, 4), draw(9, 3, 4, 5), draw(10, 3, 5)]
    assert has_derivatives(lambda *args: mixture(*args).square().sum(), own)
    heads = [draw(11 + i, 2, 3, 1, 4, 2) for i in range(3)]
    mask = torch.tensor([0.0, -1.0, -2.0, 0.0]).double().expand(3, 1, 1, 4)
    assert has_derivatives(lambda q, k, v: ops.self_attention(q, k, v, mask).square().sum(), heads)
