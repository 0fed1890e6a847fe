"""Tokens in one pass against torch's operations in float64: what they mix to, and two derivatives."""

import math

import pytest
import torch
from torch import Tensor

from funnelcast.layers.fused_tokens import fused_tokens
from tests.layers.reference import draw


def plain(tokens: list[Tensor], scored: list[Tensor]) -> Tensor:
    u, z = torch.stack(tokens), torch.stack(scored)
    shares = ((z * u).sum(-1) / math.sqrt(u.shape[-1])).softmax(dim=0)
    return (shares.unsqueeze(-1) * u).sum(0)


def derivatives(mix: object, given: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """The mixture, the gradients of its product with weights, and those of the gradients' products with weights."""
    half = len(given) // 2
    mixed = mix(given[:half], given[half:])  # type: ignore[operator]
    direction, *turns = (weight.to(mixed.dtype).requires_grad_() for weight in weights)
    grads = torch.autograd.grad((mixed * direction).sum(), given, create_graph=True)
    turned = torch.stack([(grad * turn).sum() for grad, turn in zip(grads, turns, strict=True)]).sum()
    return [mixed, *grads, *torch.autograd.grad(turned, [direction, *given])]


@pytest.mark.parametrize("scale", [0.3, 3.0, 30.0])
@pytest.mark.parametrize(("tokens", "rows", "width"), [(1, 3, 4), (2, 7, 1), (2, 40, 128), (4, 5, 19), (3, 0, 8)])
def test_the_same_mixture_and_two_derivatives(tokens: int, rows: int, width: int, scale: float) -> None:
    own = [(scale * draw(n, rows, width)).float() for n in range(2 * tokens)]
    weights = [draw(50 + n, rows, width).float() for n in range(2 * tokens + 1)]
    found = derivatives(fused_tokens, [each.clone().requires_grad_() for each in own], weights)
    right = derivatives(plain, [each.double().requires_grad_() for each in own], weights)
    for mine, exact in zip(found, right, strict=True):
        most = float(exact.detach().abs().max()) if exact.numel() else 0.0
        torch.testing.assert_close(mine.double(), exact, rtol=1e-4, atol=1e-4 * max(most, scale))


def test_rows_may_lie_apart() -> None:
    u, z = draw(0, 4, 6).float().t(), draw(1, 8, 6).float()[:4].t()
    torch.testing.assert_close(fused_tokens([u, z], [z, u]), plain([u, z], [z, u]))


def test_a_third_derivative_is_refused() -> None:
    given = [draw(n, 3, 4).float().requires_grad_() for n in range(4)]
    (first,) = torch.autograd.grad(fused_tokens(given[:2], given[2:]).sum(), given[0], create_graph=True)
    with pytest.raises(RuntimeError, match="no third derivative"):
        torch.autograd.grad(first.sum(), given[0], create_graph=True)
