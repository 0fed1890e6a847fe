"""Softmaxes side by side in one pass against torch's in float64."""

import numpy as np
import pytest
import torch
from torch import Tensor

from funnelcast.layers.leaves import Leaves
from funnelcast.layers.mode import FAST, Mode
from funnelcast.layers.softmax import softmaxes_by
from tests.layers.reference import draw


def by_torch(x: Tensor, widths: list[int]) -> Tensor:
    return torch.cat([each.softmax(dim=1) for each in x.split(widths, dim=1)], dim=1)


@pytest.mark.parametrize("widths", [[1], [8, 8], [3, 1, 20]])
@pytest.mark.parametrize("rows", [0, 1, 300])
def test_the_same_shares_and_derivatives(rows: int, widths: list[int]) -> None:
    exact = (20 * draw(0, rows, sum(widths))).requires_grad_()
    own = exact.detach().float().requires_grad_()
    expected, found = by_torch(exact, widths), softmaxes_by(FAST, own, widths)
    assert isinstance(found.grad_fn, torch.autograd.function.BackwardCFunction)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-7)
    direction = draw(1, rows, sum(widths))
    (right,) = torch.autograd.grad((expected * direction).sum(), exact)
    (grad,) = torch.autograd.grad((found * direction.float()).sum(), own)
    torch.testing.assert_close(grad.double(), right, rtol=1e-4, atol=1e-6)


def test_large_numbers_and_what_is_no_number() -> None:
    x = torch.tensor([[1e30, -1e30, 5.0, 5.0], [-np.inf, 0.0, np.nan, 1.0]])
    found = softmaxes_by(FAST, x, [2, 2])
    assert found[0].tolist() == [1, 0, 0.5, 0.5] and found[1, :2].tolist() == [0, 1] and found[1, 2:].isnan().all()


def test_columns_that_do_not_lie_in_one_piece() -> None:
    x = draw(0, 6, 50).float().t()
    torch.testing.assert_close(softmaxes_by(FAST, x, [2, 4]), by_torch(x, [2, 4]))


@pytest.mark.parametrize("widths", [[1], [8, 8], [3, 1, 20]])
@pytest.mark.parametrize("rows", [0, 1, 300])
def test_the_same_second_derivatives(rows: int, widths: list[int]) -> None:
    """Of the gradient of a sum of weighed squares, by x and by the weights."""
    given = [draw(seed, rows, sum(widths)) for seed in range(3)]
    found = list[list[Tensor]]()
    for dtype in (torch.float64, torch.float32):
        x, weights, direction = (each.to(dtype, copy=True).requires_grad_() for each in given)
        shares = by_torch(x, widths) if dtype == torch.float64 else softmaxes_by(FAST, x, widths)
        (first,) = torch.autograd.grad((weights * shares.square()).sum(), x, create_graph=True)
        found.append([first, *torch.autograd.grad((first * direction).sum(), [x, weights])])
    for right, own in zip(*found, strict=True):
        torch.testing.assert_close(own.double(), right, rtol=1e-4, atol=1e-6)


def test_there_is_no_third_derivative() -> None:
    x = draw(0, 7, 5).float().requires_grad_()
    mode = Mode(fused=True, again=Leaves([x]))
    (first,) = torch.autograd.grad(softmaxes_by(mode, x, [2, 3]).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no third derivative"):
        torch.autograd.grad(first.square().sum(), x, create_graph=True)
