"""What attention between steps promises beyond its values."""

import pytest
import torch

from funnelcast import ops
from funnelcast.kernels.cpu import why_no_bfloat16
from funnelcast.kernels.cpu.bank_kernels import BLOCK
from funnelcast.layers.attention import StepAttention
from tests.layers.reference import draw, randomise

EDGES = [(0, 2), (1, 2), (0, 3), (1, 3)]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_row_has_the_same_bits_alone_and_in_scoring(precision: ops.Precision) -> None:
    if precision == "bfloat16" and why_no_bfloat16():
        pytest.skip("this processor does not multiply bfloat16")
    attention, x = StepAttention(24, EDGES), draw(1, 4, BLOCK + 5, 24).float()
    randomise(attention, scale=0.3)
    with ops.compute(torch.device("cpu"), precision=precision):
        out = attention(x)
        with torch.no_grad():
            assert torch.equal(attention(x), out)
            for row in (0, BLOCK - 1, BLOCK + 4):
                assert torch.equal(attention(x[:, row : row + 1]), out[:, row : row + 1])


def test_no_gradients_are_made_that_nobody_wants() -> None:
    """And those that are wanted are the same."""
    attention, x = StepAttention(4, EDGES), draw(1, 4, 3, 4).float().requires_grad_()
    randomise(attention)
    with ops.compute(torch.device("cpu")):
        right, *_ = torch.autograd.grad(attention(x).square().sum(), [x, *attention.parameters()])
        attention.requires_grad_(False)
        (grad,) = torch.autograd.grad(attention(x).square().sum(), [x])
    assert grad.any() and torch.equal(grad, right)
