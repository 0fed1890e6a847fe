"""The last layer in one pass against a product by torch in float64."""

import pytest
import torch

from funnelcast.layers.output import fused_output
from tests.layers.reference import draw


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("width", [1, 5, 32, 100])
@pytest.mark.parametrize("rows", [0, 1, 300])
def test_the_same_logits_and_derivatives(rows: int, width: int, steps: int) -> None:
    shapes = (steps, rows, width), (steps, width, 1), (steps, 1)
    exact = [draw(seed, *shape).requires_grad_() for seed, shape in enumerate(shapes)]
    own = [tensor.detach().float().requires_grad_() for tensor in exact]
    x, weight, bias = exact
    expected = torch.einsum("tbh,tho->bt", x, weight) + bias.squeeze(1)
    found = fused_output(*own)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    direction = draw(7, rows, steps)
    right = torch.autograd.grad((expected * direction).sum(), exact)
    grads = torch.autograd.grad((found * direction.float()).sum(), own)
    for grad, each in zip(grads, right, strict=True):
        torch.testing.assert_close(grad.double(), each, rtol=1e-4, atol=1e-4)


def test_no_second_derivative() -> None:
    own = [draw(seed, *shape).float().requires_grad_() for seed, shape in enumerate([(2, 4, 3), (2, 3, 1), (2, 1)])]
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(fused_output(*own).sum(), own, create_graph=True)
