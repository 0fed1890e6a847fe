"""Adam (Kingma & Ba 2015), with coupled L2 and decoupled decay (Loshchilov & Hutter 2019), in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from funnelcast.ops.dispatch import op

BETAS: Final = (0.9, 0.999)
EPSILON: Final = 1e-8
TINY: Final = 1e-30
"""A weight or moment of at most this magnitude becomes 0, long before it is subnormal (1.2e-38). A step is not changed
by that: next to `EPSILON`, 1e-8, a root of 1e-15 and a mean of 1e-30 are nothing."""


def bias_corrections(steps: int) -> tuple[float, float]:
    """Return a divisor of the rate, and a factor of the square's root, after so many steps."""
    return 1 - BETAS[0] ** steps, 1 / (1 - BETAS[1] ** steps) ** 0.5


@op
def adam(
    parameters: Sequence[Tensor], means: Sequence[Tensor], squares: Sequence[Tensor], grads: Sequence[Sequence[Tensor]],
    *, rate: float, scale: float, l2: float, decay: Sequence[float],
) -> bool:  # fmt: skip
    """Move parameters and their moments by a step.

        g = Σ grads + l2 · w,   m += (1 - β₁)(g - m),   s += (1 - β₂)(g² - s),
        w -= rate · m / (scale · √s + ε) + decay · w.

    Args:
        parameters, means, squares: contiguous, one for each parameter.
        grads: of each microbatch, one for each parameter; they are added up.
        rate, scale: learning rate and factor of √s, with `bias_corrections`.
        l2: added to the gradient times the parameter.
        decay: share of each parameter that it loses.
    """
    weight, mean, square = list(parameters), list(means), list(squares)
    total = list(grads[0])
    for more in grads[1:]:
        total = list(torch._foreach_add(total, list(more)))
    g = torch._foreach_add(total, weight, alpha=l2)
    torch._foreach_lerp_(mean, g, 1 - BETAS[0])
    torch._foreach_mul_(square, BETAS[1])
    torch._foreach_addcmul_(square, g, g, value=1 - BETAS[1])
    size = torch._foreach_sqrt(square)
    torch._foreach_mul_(size, scale)
    torch._foreach_add_(size, EPSILON)
    if any(decay):
        torch._foreach_mul_(weight, [1 - share for share in decay])
    torch._foreach_addcdiv_(weight, mean, size, value=-rate)
    for tensor in (*weight, *mean, *square):
        tensor.copy_(functional.hardshrink(tensor, TINY))
    return True


@op
def adam_rows(
    weight: Tensor, moments: Tensor, rows: Tensor, grad: Tensor, *, rate: float, scale: float, l2: float,
    last: Tensor | None, lost: Tensor | None, step: int,
) -> bool:  # fmt: skip
    """Move rows of a table and their moments by a step of `adam`; all other rows stay as they are.

    Args:
        weight: (V, E).
        moments: (V, 2, E), mean and square.
        rows: (U,) distinct.
        grad: (U, E).
        rate, scale, l2: as of `adam`.
        last: (V,) int32, the step in which each row last moved; it becomes this one. None for no decay.
        lost: (n,) the share that decay takes in 0, 1, … steps.
        step: the number of this one.
    """
    rows = rows.long()
    decay: Tensor | float = 0.0
    if last is not None and lost is not None:
        decay = lost[step - last[rows]][:, None]
        last[rows] = step
    g = grad.add(weight[rows], alpha=l2)
    m, s = moments[rows].unbind(1)
    m = m.lerp(g, 1 - BETAS[0])
    s = s.mul(BETAS[1]).addcmul_(g, g, value=1 - BETAS[1])
    moments[rows] = functional.hardshrink(torch.stack([m, s], 1), TINY)
    moved = m / s.sqrt().mul_(scale).add_(EPSILON)
    weight[rows] = functional.hardshrink(weight[rows] - (rate * moved + decay * weight[rows]), TINY)
    return True
