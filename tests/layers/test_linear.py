"""Linear layers through the compiled loops against torch's in float64, with first and second derivatives."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from funnelcast.layers.leaves import Leaves
from funnelcast.layers.linear import linear_by
from funnelcast.layers.mode import FAST, Mode
from tests.layers.reference import draw


def plain(x: Tensor, weight: Tensor, bias: Tensor | None, rectified: bool) -> Tensor:
    y = linear(x, weight, bias)
    return y.relu() if rectified else y


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("shape", [(1, 5), (300, 5), (2, 30, 5)])
def test_the_same_numbers_and_derivatives(shape: tuple[int, ...], biased: bool, rectified: bool) -> None:
    tensors = [draw(0, *shape), draw(1, 21, 5), *([draw(2, 21)] if biased else [])]
    found, expected = (derivatives([t.to(kind) for t in tensors], rectified) for kind in (torch.float32, torch.float64))
    for mine, right in zip(found, expected, strict=True):
        torch.testing.assert_close(mine.double(), right, rtol=2e-4, atol=2e-4)


def derivatives(tensors: list[Tensor], rectified: bool) -> list[Tensor]:
    """The result, its derivatives, and theirs; by compiled loops for float32."""
    x, weight, *bias = own = [t.detach().clone().requires_grad_() for t in tensors]
    chosen = bias[0] if bias else None
    mode = Mode(fused=True, again=Leaves(own))
    fast = x.dtype == torch.float32
    y = linear_by(mode, x, weight, chosen, rectified=rectified) if fast else plain(x, weight, chosen, rectified)
    first = torch.autograd.grad((y.square() * draw(5, *y.shape).to(y.dtype)).sum(), own, create_graph=True)
    second = torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum() / 50, own)
    return [each.detach() for each in (y, *first, *second)]


def test_without_a_bias_or_the_loops_it_is_torchs() -> None:
    x, weight = draw(0, 3, 5), draw(1, 4, 5)
    assert torch.equal(linear_by(FAST, x, weight), linear(x, weight))
    assert torch.equal(linear_by(Mode(), x.float(), weight.float()), linear(x.float(), weight.float()))
