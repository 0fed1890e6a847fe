"""From logits to each step's loss in one kernel.

For a step t whose path from a first step has the step s, with p and q the probabilities of having reached t and not,
σ_s = σ(logit_s) and τ_s = σ(−logit_s),

    ∂(−log p)/∂logit_s = −τ_s,          ∂(−log q)/∂logit_s = τ_s p / q.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from funnelcast.compiled import compiled_for_speed
from funnelcast.kernels.cpu.buffers import are_float32, arrays
from funnelcast.kernels.cpu.graph import launch, once
from funnelcast.kernels.cpu.reach import ONE, reach_step

UNOBSERVED: Final = 255


def funnel_losses(
    logits: Tensor, labels: Tensor, weight: Tensor | None, parents: tuple[int, ...], factors: Tensor | None,
    focal_gamma: float = 0.0,
) -> Any:  # fmt: skip
    """`ops.funnel_losses`, without focal loss."""
    if focal_gamma or not are_float32(logits):
        return NotImplemented
    return _FunnelLosses.apply(logits, labels, weight, np.array(parents, np.int64), factors)  # type: ignore[no-untyped-call]


class _FunnelLosses(torch.autograd.Function):
    """logits (B, T), labels (B, T) uint8, weight (B,) or none, parents (T,), factors (T,) or none -> sums (T,)."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, weight: Tensor | None, parents: Any, factors: Tensor | None
    ) -> Tensor:
        rows, steps = logits.shape
        slopes, sums = logits.new_empty(steps, rows, steps), logits.new_empty(steps)
        weight = logits.new_empty(0) if weight is None else weight.contiguous()
        factors = logits.new_ones(steps) if factors is None else factors
        launch(_add_losses, *arrays(logits.contiguous(), labels.contiguous(), weight, factors, sums, slopes), parents)
        ctx.save_for_backward(slopes)
        return sums

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        once()
        (slopes,) = ctx.saved_tensors
        return (grad.contiguous() @ slopes.flatten(1)).view(-1, len(grad)), *[None] * 4


@compiled_for_speed
def _add_losses(logits: Any, labels: Any, weight: Any, factors: Any, sums: Any, slopes: Any, parents: Any) -> None:
    """Fill `sums` (T,), and in `slopes` (T, B, T) the derivative of a step's loss of a row by each logit."""
    steps = logits.shape[1]
    log_p, log_q, log_stop, p, stop = np.empty((5, steps), np.float32)
    exact = np.zeros(steps)  # float64, as there are many rows
    for b in range(len(logits)):
        for t in range(steps):
            parent = parents[t]
            reach_step(logits[b, t], t, parent, log_p, log_q, log_stop, p, stop)
            slopes[t, b, :] = 0
            if labels[b, t] == UNOBSERVED:
                continue
            factor = weight[b] if len(weight) else ONE
            if labels[b, t] == 1:
                factor *= factors[t]
                exact[t] -= factor * log_p[t]
            else:
                exact[t] -= factor * log_q[t]
            s = t
            while s >= 0:
                if labels[b, t] == 1:
                    slopes[t, b, s] = -factor * stop[s]
                elif parent < 0:
                    slopes[t, b, s] = factor * p[t]
                else:
                    slopes[t, b, s] = factor * math.exp(log_p[t] - log_q[t] + log_stop[s])
                s = parents[s]
    for t in range(steps):
        sums[t] = exact[t]
