"""From logits to each step's loss in one compiled pass, with its derivative: `heads` and `step_losses` in one.

For a step t whose path from a first step has the steps s, with p and q the probabilities of having reached t and not,

    ∂(−log p)/∂logit_s = −σ(−logit_s),   ∂(−log q)/∂logit_s = σ(−logit_s) p / q.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from funnelcast.compiled import compiled_for_speed
from funnelcast.data.columns import UNOBSERVED

HALF: Final = np.float32(0.5)
ONE: Final = np.float32(1)
ZERO: Final = np.float32(0)


def fused_losses(
    logits: Tensor, labels: Tensor, weight: Tensor | None, parents: Tensor, factors: Tensor
) -> Tensor:  # fmt: skip
    """`FusedLosses` of these."""
    sums: Tensor = FusedLosses.apply(logits, labels, weight, parents, factors)  # type: ignore[no-untyped-call]
    return sums


class FusedLosses(torch.autograd.Function):
    """The sums (T,) over rows of each step's cross-entropy, from logits (B, T) in float32 on the CPU; once
    differentiable, by the logits."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, weight: Tensor | None, parents: Tensor, factors: Tensor
    ) -> Tensor:
        """labels (B, T) uint8; weight (B,) or none; parents (T,) int64 of the steps along which probabilities are
        multiplied, -1 where there is none; factors (T,) on the losses of reached rows."""
        rows, steps = logits.shape
        slopes = logits.new_empty(rows, steps, steps)
        sums = torch.empty(steps, dtype=torch.float64)
        weights = logits.new_empty(0) if weight is None else weight.contiguous()
        tensors = (logits.contiguous(), labels.contiguous(), weights, parents, factors, sums, slopes)
        add_losses(*(tensor.detach().numpy() for tensor in tensors))
        ctx.save_for_backward(slopes)
        return sums.to(logits.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("FusedLosses has no second derivative; ask for it by Mode(again=…)")
        (slopes,) = ctx.saved_tensors
        by_logits = slopes.new_empty(len(slopes), len(grad))
        weigh_slopes(grad.contiguous().numpy(), slopes.numpy(), by_logits.numpy())
        return by_logits, None, None, None, None


@compiled_for_speed
def weigh_slopes(grad: Any, slopes: Any, by_logits: Any) -> None:
    """Fills `by_logits` (B, T) with Σ_t grad_t times the slopes (B, T, T) of step t."""
    steps = len(grad)
    for b in range(len(slopes)):
        for s in range(steps):
            by_logits[b, s] = 0
            for t in range(steps):
                by_logits[b, s] += grad[t] * slopes[b, t, s]


@compiled_for_speed
def add_losses(
    logits: Any, labels: Any, weight: Any, parents: Any, factors: Any, sums: Any, slopes: Any
) -> None:  # fmt: skip
    """Fills `sums` (T,), and in `slopes` (B, T, T) the derivative of the loss of a row and step by each logit."""
    steps = logits.shape[1]
    log_p, log_q, log_stop, p, stop = np.empty((5, steps), np.float32)
    sums[:] = 0
    for b in range(len(logits)):
        for t in range(steps):
            x, parent = logits[b, t], parents[t]
            small = math.exp(-abs(x))
            rest = math.log1p(small)
            log_given, log_stop[t] = min(x, ZERO) - rest, min(-x, ZERO) - rest
            stop[t] = small / (ONE + small) if x >= 0 else ONE / (ONE + small)
            p[t] = ONE / (ONE + small) if x >= 0 else small / (ONE + small)
            log_p[t], log_q[t] = log_given, log_stop[t]
            if parent >= 0:
                log_p[t] += log_p[parent]
                p[t] *= p[parent]
                if p[t] > HALF:
                    own = log_p[parent] + log_stop[t]
                    most = max(log_q[parent], own)
                    log_q[t] = most + math.log1p(math.exp(min(log_q[parent], own) - most))
                else:
                    log_q[t] = math.log1p(-p[t])
            for s in range(steps):
                slopes[b, t, s] = 0
            if labels[b, t] == UNOBSERVED:
                continue
            factor = weight[b] if len(weight) else ONE
            if labels[b, t] == 1:
                factor *= factors[t]
                sums[t] -= factor * log_p[t]
            else:
                sums[t] -= factor * log_q[t]
            s = t
            while s >= 0:
                if labels[b, t] == 1:
                    slopes[b, t, s] = -factor * stop[s]
                elif parent < 0:
                    slopes[b, t, s] = factor * p[t]
                else:
                    slopes[b, t, s] = factor * math.exp(log_p[t] - log_q[t] + log_stop[s])
                s = parents[s]
