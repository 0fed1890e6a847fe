"""Losses of a funnel's steps: the reference against loops, and the kernel against the reference in float64."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from funnelcast import ops
from funnelcast.data.columns import UNOBSERVED
from funnelcast.kernels.cpu import FLOAT32
from tests.layers.reference import draw
from tests.pairs import pairwise

CHAINS = {"one": (-1,), "chain": (-1, 0, 1), "tree": (-1, 0, 0, 2), "parallel": (-1, -1, 0)}
EXTREME = [-1e4, -90.0, 90.0, 1e4]


def losses_within(order: int) -> Callable[..., Tensor]:
    """By the kernel for one derivative, by the reference for two."""

    def losses(*arguments: Any) -> Tensor:
        with ops.compute(torch.device("cpu"), order=order):
            return ops.funnel_losses(*arguments)

    return losses


def labels_of(rows: int, steps: int) -> Tensor:
    """A third each: not reached, reached, not observed."""
    drawn = torch.randint(3, (rows, steps), generator=torch.Generator().manual_seed(3))
    return torch.tensor([0, 1, UNOBSERVED], dtype=torch.uint8)[drawn]


def weights_of(rows: int, *, weighted: bool) -> Tensor | None:
    return torch.rand(rows, generator=torch.Generator().manual_seed(1)) if weighted else None


def by_loops(
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    parents: tuple[int, ...],
    factors: Tensor | None,
    gamma: float,
) -> list[float]:
    """From probabilities, row by row."""
    sums = [0.0] * len(parents)
    for row, z in enumerate(logits.tolist()):
        p = list[float]()
        for t, parent in enumerate(parents):
            p.append((p[parent] if parent >= 0 else 1.0) / (1 + math.exp(-z[t])))
            label = int(labels[row, t])
            if label != UNOBSERVED:
                likely, factor = (p[t], 1.0 if factors is None else float(factors[t])) if label else (1 - p[t], 1.0)
                own = 1.0 if weight is None else float(weight[row])
                sums[t] -= own * factor * (1 - likely) ** gamma * math.log(likely)
    return sums


@pytest.mark.parametrize(
    ("parents", "weighted", "factored", "gamma"),
    pairwise(CHAINS.values(), [False, True], [False, True], [0.0, 0.5, 2.0]),
)
def test_the_formula(parents: tuple[int, ...], weighted: bool, factored: bool, gamma: float) -> None:
    logits, labels, weight = (
        2 * draw(0, 60, len(parents)),
        labels_of(60, len(parents)),
        weights_of(60, weighted=weighted),
    )
    factors = torch.linspace(0.5, 2, len(parents)) if factored else None
    found = ops.funnel_losses(logits, labels, weight, parents, factors, gamma)
    expected = torch.tensor(by_loops(logits, labels, weight, parents, factors, gamma)).double()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def cases(*scales: float) -> pytest.MarkDecorator:
    """Numbers of rows, funnels and scales of logits, with and without weights."""
    drawn = pairwise([0, 1, 300], CHAINS.values(), [False, True], scales)
    return pytest.mark.parametrize(("rows", "parents", "weighted", "scale"), drawn)


@cases(0.1, 2.0, 30.0)
def test_the_kernels_sums_and_derivatives(rows: int, parents: tuple[int, ...], weighted: bool, scale: float) -> None:
    logits, labels = (scale * draw(0, rows, len(parents))).float(), labels_of(rows, len(parents))
    weight, direction = weights_of(rows, weighted=weighted), torch.linspace(1, 3, len(parents))
    own, exact = logits.clone().requires_grad_(), logits.double().requires_grad_()
    for factors in (None, torch.linspace(0.5, 2, len(parents))):
        found = FLOAT32["funnel_losses"](own, labels, weight, parents, factors)
        expected = ops.funnel_losses(exact, labels, weight, parents, factors)
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
        (grad,) = torch.autograd.grad((found * direction).sum(), own)
        (right,) = torch.autograd.grad((expected * direction).sum(), exact)
        torch.testing.assert_close(grad.double(), right, rtol=1e-4, atol=1e-6)


def test_logits_and_labels_that_are_not_contiguous() -> None:
    logits, labels, parents = draw(0, 3, 50).float().t(), labels_of(50, 6)[:, ::2], (-1, 0, 1)
    found = FLOAT32["funnel_losses"](logits, labels, None, parents, None)
    torch.testing.assert_close(found, ops.funnel_losses(logits, labels, None, parents, None), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("value", EXTREME)
def test_extreme_logits_have_finite_losses_and_derivatives(value: float, order: int) -> None:
    logits = torch.tensor([[value, -value, value]], requires_grad=True)
    for label in (0, 1):
        labels = torch.full((1, 3), label, dtype=torch.uint8)
        sums = losses_within(order)(logits, labels, None, (-1, 0, 1), torch.ones(3))
        (grad,) = torch.autograd.grad(sums.sum(), logits, create_graph=order > 1)
        assert sums.isfinite().all() and grad.isfinite().all()
        if order > 1:
            assert torch.autograd.grad(grad.sum(), logits)[0].isfinite().all()


@pytest.mark.parametrize("order", [1, 2])
def test_nan_is_told_by_the_sum_and_passes_no_unobserved_label(order: int) -> None:
    logits, labels = torch.tensor([[torch.nan], [0.0]], requires_grad=True), torch.ones(2, 1, dtype=torch.uint8)
    assert losses_within(order)(logits, labels, None, (-1,), None).isnan().all()
    labels[0] = UNOBSERVED
    sums = losses_within(order)(logits, labels, None, (-1,), None)
    assert sums.item() == pytest.approx(math.log(2), rel=1e-6)


@cases(0.1, 2.0, 10.0)
def test_second_derivatives_in_float32(rows: int, parents: tuple[int, ...], weighted: bool, scale: float) -> None:
    logits, labels = (scale * draw(0, rows, len(parents))).float(), labels_of(rows, len(parents))
    weight, factors = weights_of(rows, weighted=weighted), torch.linspace(0.5, 2, len(parents))
    direction, cotangent = torch.linspace(1, 3, len(parents)), draw(5, rows, 1) * torch.linspace(-1, 2, len(parents))
    found = []
    for kind in (torch.float32, torch.float64):
        own, grad = logits.to(kind).requires_grad_(), direction.to(kind).requires_grad_()
        sums = losses_within(2)(own, labels, weight, parents, factors)
        (slopes,) = torch.autograd.grad((sums * grad).sum(), own, create_graph=True)
        found.append(torch.autograd.grad((slopes * cotangent).sum(), [own, grad], materialize_grads=True))
    for single, exact in zip(*found, strict=True):
        torch.testing.assert_close(single.double(), exact.double(), rtol=1e-4, atol=2e-5)
