"""Layers by kernels in float32 against themselves in float64: values and derivatives by inputs and all parameters."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from funnelcast.kernels.cpu.bank_kernels import BLOCK
from funnelcast.layers.attention import StepAttention
from funnelcast.layers.banks import MLPBank
from funnelcast.layers.gates import (
    GateBank,
    GatedExperts,
    OwnExperts,
    SharedTrunk,
    extraction_levels,
    own_and_shared,
)
from funnelcast.layers.members import MemberTrunks
from funnelcast.ops import compute
from tests.layers.reference import draw, randomise

CPU = torch.device("cpu")


def experts(steps: int, own: int, shared: int, width: int, *widths: int, **named: Any) -> GatedExperts:
    visible = own_and_shared(steps, own, shared)
    owners = named.pop("owners", ())
    return GatedExperts(MLPBank(len(visible[0]), width, widths, **named), GateBank(width, visible), owners)


LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "the paper's sizes": (experts(2, 4, 4, 90, 256, 128), (64, 90)),
    "tiles in part": (experts(2, 1, 2, 7, 70, 33, 17), (2 * BLOCK + 5, 7)),
    "leaky": (experts(2, 1, 2, 7, 32, 16, slope=0.2), (37, 7)),
    "an input per owner and gate": (experts(2, 2, 1, 7, 6, 4, owners=[0, 0, 1, 1, 2]), (3, 37, 7)),
    "inputs in another order": (experts(2, 2, 1, 7, 6, 4, owners=[1, 0, 2, 0, 1]), (3, 37, 7)),
    "one input of three": (experts(2, 2, 1, 7, 6, 4, owners=[2, 2, 2, 2, 2]), (3, 1, 7)),
    "an input per owner, no rows": (experts(2, 2, 1, 7, 6, 4, owners=[0, 0, 1, 1, 2]), (3, 0, 7)),
    "levels": (extraction_levels(7, (6, 4), 3, 2, 2, 3), (37, 7)),
    "levels, nothing shared": (extraction_levels(7, (6, 4), 3, 2, 0, 3), (37, 7)),
    "shared": (SharedTrunk(MLPBank(1, 7, (6, 4))), (37, 7)),
    "own": (OwnExperts(MLPBank(3, 2, (6, 4)), [[0, 2], [3, 2], [2, 1]]), (37, 7)),
    "members": (MemberTrunks([experts(2, 1, 1, 7, 6, 4), SharedTrunk(MLPBank(1, 7, (6, 4)))], 2), (37, 7)),
    "attention": (StepAttention(24, [(0, 2), (1, 2), (0, 3)]), (4, BLOCK + 5, 24)),
}


def results(layer: nn.Module, x: Tensor) -> list[Tensor]:
    leaf = x.clone().requires_grad_()
    with compute(CPU, dtype=x.dtype):
        out = layer(leaf)
    direction = draw(9, *out.shape).to(x.dtype)
    return [out.detach(), *torch.autograd.grad((out * direction).sum(), [leaf, *layer.parameters()])]


@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS)
def test_the_same_values_and_derivatives(layer: nn.Module, shape: tuple[int, ...]) -> None:
    layer = copy.deepcopy(layer)
    randomise(layer, scale=0.5 if shape[-1] < 20 else 0.1)
    x = draw(1, *shape).float()
    expected = results(copy.deepcopy(layer).double(), x.double())
    for mine, right in zip(results(layer, x), expected, strict=True):
        assert mine.dtype == torch.float32 and mine.shape == right.shape
        assert (mine.double() - right).norm() <= 1e-5 * (1 + right.norm())


@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS)
def test_a_second_derivative_by_kernels_is_refused_and_by_references_there(
    layer: nn.Module, shape: tuple[int, ...]
) -> None:
    """One that merely forgot a path would be wrong without a word, as x reaches the result in other ways too."""
    layer, x = copy.deepcopy(layer), draw(1, *shape).float().requires_grad_()
    randomise(layer, scale=0.1)

    def second(order: int) -> Tensor:
        with compute(CPU, order=order):
            out = layer(x)
        (first,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)[0]

    with pytest.raises(RuntimeError, match="no second derivative"):
        second(1)
    assert second(2).any() or not x.numel()
