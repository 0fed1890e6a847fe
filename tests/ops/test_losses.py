"""The losses in one pass against heads and losses by torch's operations in float64."""

from itertools import product

import pytest
import torch
from torch import Tensor

from funnelcast.data.columns import UNOBSERVED
from funnelcast.ops.reach import HEADS
from funnelcast.training.fused_losses import fused_losses
from funnelcast.training.losses import LossConfig, build_loss_weights, step_losses
from tests.layers.reference import draw

CHAINS = {"one": (-1,), "chain": (-1, 0, 1), "tree": (-1, 0, 0, 2), "parallel": (-1, -1, 0)}


def labels_of(rows: int, steps: int) -> Tensor:
    """A third each: not reached, reached, not observed."""
    drawn = torch.randint(3, (rows, steps), generator=torch.Generator().manual_seed(3))
    return torch.tensor([0, 1, UNOBSERVED], dtype=torch.uint8)[drawn]


def expected_of(
    logits: Tensor, labels: Tensor, weight: Tensor | None, parents: tuple[int, ...], factors: Tensor
) -> Tensor:
    reach = HEADS["chain"](logits, parents)
    config = LossConfig(positive_weight=tuple(factors.tolist()))
    return step_losses(reach, labels, None if weight is None else weight.double(), config)


for_all_rows = pytest.mark.parametrize(
    ("rows", "parents", "weighted"),
    [
        pytest.param(rows, parents, weighted, id=f"{rows}-{name}-{weighted}")
        for rows, (name, parents), weighted in product([0, 1, 300], CHAINS.items(), [False, True])
    ],
)


def weights_of(rows: int, *, weighted: bool) -> Tensor | None:
    return torch.rand(rows, generator=torch.Generator().manual_seed(1)) if weighted else None


@pytest.mark.parametrize("scale", [0.1, 2.0, 30.0])
@for_all_rows
def test_the_same_sums_and_derivatives(rows: int, parents: tuple[int, ...], weighted: bool, scale: float) -> None:
    logits, labels = (scale * draw(0, rows, len(parents))).float(), labels_of(rows, len(parents))
    weight = weights_of(rows, weighted=weighted)
    factors, direction = torch.linspace(0.5, 2, len(parents)), torch.linspace(1, 3, len(parents))
    own, exact = logits.clone().requires_grad_(), logits.double().requires_grad_()
    found = fused_losses(own, labels, weight, torch.tensor(parents), factors)
    expected = expected_of(exact, labels, weight, parents, factors)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    (grad,) = torch.autograd.grad((found * direction).sum(), own)
    (right,) = torch.autograd.grad((expected * direction).sum(), exact)
    torch.testing.assert_close(grad.double(), right, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("value", [-1e4, -90.0, 90.0, 1e4])
def test_extreme_logits_have_finite_losses_and_slopes(value: float) -> None:
    logits = torch.tensor([[value, -value, value]], requires_grad=True)
    for label in (0, 1):
        labels = torch.full((1, 3), label, dtype=torch.uint8)
        sums = fused_losses(logits, labels, None, torch.tensor((-1, 0, 1)), torch.ones(3))
        (grad,) = torch.autograd.grad(sums.sum(), logits)
        assert sums.isfinite().all() and grad.isfinite().all()


def test_a_number_that_is_none_is_told_by_the_sum() -> None:
    logits, labels = torch.tensor([[torch.nan], [0.0]]), torch.ones(2, 1, dtype=torch.uint8)
    assert fused_losses(logits, labels, None, torch.tensor((-1,)), torch.ones(1)).isnan().all()


@pytest.mark.parametrize("scale", [0.1, 2.0, 10.0])
@for_all_rows
def test_the_same_second_derivatives(rows: int, parents: tuple[int, ...], weighted: bool, scale: float) -> None:
    logits, labels = (scale * draw(0, rows, len(parents))).float(), labels_of(rows, len(parents))
    weight = weights_of(rows, weighted=weighted)
    factors, direction, turn = (
        torch.linspace(0.5, 2, len(parents)),
        torch.linspace(1, 3, len(parents)),
        draw(5, rows, 1),
    )
    found = []
    for kind in (torch.float32, torch.float64):
        own, grad = logits.to(kind).requires_grad_(), direction.to(kind).requires_grad_()
        if kind == torch.float32:
            sums = fused_losses(own, labels, weight, torch.tensor(parents), factors)
        else:
            sums = expected_of(own, labels, weight, parents, factors)
        (slopes,) = torch.autograd.grad((sums * grad).sum(), own, create_graph=True)
        turned = (slopes * turn * torch.linspace(-1, 2, len(parents))).sum()
        found.append(torch.autograd.grad(turned, [own, grad], allow_unused=True, materialize_grads=True))
    for fast, exact in zip(*found, strict=True):
        torch.testing.assert_close(fast.double(), exact.double(), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("value", [-1e4, -90.0, 90.0, 1e4])
def test_extreme_logits_have_finite_second_derivatives(value: float) -> None:
    logits = torch.tensor([[value, -value, value]], requires_grad=True)
    for label in (0, 1):
        labels = torch.full((1, 3), label, dtype=torch.uint8)
        sums = fused_losses(logits, labels, None, torch.tensor((-1, 0, 1)), torch.ones(3))
        (slopes,) = torch.autograd.grad(sums.sum(), logits, create_graph=True)
        (bends,) = torch.autograd.grad(slopes.sum(), logits)
        assert bends.isfinite().all()


def test_a_third_derivative_is_refused() -> None:
    logits = torch.zeros(2, 1, requires_grad=True)
    sums = fused_losses(logits, torch.ones(2, 1, dtype=torch.uint8), None, torch.tensor((-1,)), torch.ones(1))
    (slopes,) = torch.autograd.grad(sums.sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="no third derivative"):
        torch.autograd.grad(slopes.square().sum(), logits, create_graph=True)


@pytest.mark.parametrize(
    "config", [LossConfig(weights=(1.0, 2.0, 0.5)), LossConfig(weighting="uncertainty", normalise=True)]
)
def test_a_loop_weighs_losses_as_plain_operations_do(config: LossConfig) -> None:
    """With first and second derivatives, by the losses and by what weights are learned through."""
    found = []
    for dtype in (torch.float32, torch.float64):
        weights = build_loss_weights(config, [0.3, 0.05, 0.5]).to(dtype)
        losses = torch.tensor([0.5, 0.2, 0.9], dtype=dtype, requires_grad=True)
        wanted = [losses, *weights.parameters()]
        total = weights.combine(losses, 0.25)
        plain = torch.autograd.grad(total, wanted, retain_graph=True)
        first = torch.autograd.grad(total, wanted, create_graph=True)
        powers = sum((grad**2).sum() for grad in first)
        assert isinstance(powers, torch.Tensor)
        second = torch.autograd.grad(powers, wanted, allow_unused=True) if powers.requires_grad else ()
        assert all(torch.allclose(a, b, rtol=1e-6) for a, b in zip(plain, first, strict=True))
        found.append([total, *plain, *(grad for grad in second if grad is not None)])
    for mine, right in zip(*found, strict=True):
        torch.testing.assert_close(mine.double(), right, rtol=1e-6, atol=1e-7)
