"""The last layer in one pass against a product by torch in float64."""

import pytest
import torch
from torch import Tensor

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


def gradient_of_a_gradient(logits: Tensor, given: list[Tensor], directions: list[Tensor]) -> list[Tensor]:
    """Of the inner product of the gradients and directions; logits enter squared, for a gradient that is not 0."""
    direction, *turns = directions
    grads = torch.autograd.grad((logits * logits * direction).sum(), given, create_graph=True)
    total = sum(((grad * turn).sum() for grad, turn in zip(grads, turns, strict=True)), torch.zeros(()))
    return list(torch.autograd.grad(total, given))


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("width", [1, 5, 32])
@pytest.mark.parametrize("rows", [0, 1, 70])
def test_the_same_second_derivatives(rows: int, width: int, steps: int) -> None:
    shapes = (steps, rows, width), (steps, width, 1), (steps, 1)
    exact = [draw(seed, *shape).requires_grad_() for seed, shape in enumerate(shapes)]
    own = [tensor.detach().float().requires_grad_() for tensor in exact]
    directions = [draw(9 + seed, *shape) for seed, shape in enumerate([(rows, steps), *shapes])]
    x, weight, bias = exact
    expected = torch.einsum("tbh,tho->bt", x, weight) + bias.squeeze(1)
    right = gradient_of_a_gradient(expected, exact, directions)
    found = gradient_of_a_gradient(fused_output(*own), own, [each.float() for each in directions])
    for each, expected in zip(found, right, strict=True):
        torch.testing.assert_close(each.double(), expected, rtol=1e-3, atol=1e-3)


def test_no_third_derivative() -> None:
    own = [draw(seed, *shape).float().requires_grad_() for seed, shape in enumerate([(2, 4, 3), (2, 3, 1), (2, 1)])]
    grads = torch.autograd.grad((fused_output(*own) ** 2).sum(), own, create_graph=True)
    with pytest.raises(RuntimeError, match="no third derivative"):
        torch.autograd.grad(grads[0].sum(), own, create_graph=True)
