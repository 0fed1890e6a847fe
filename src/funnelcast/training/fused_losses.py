"""From logits to each step's loss in one compiled pass, with two derivatives: `heads` and `step_losses` in one.

For a step t whose path from a first step has the steps s and r, with p and q the probabilities of having reached t and
not, σ_s = σ(logit_s) and τ_s = σ(−logit_s),

    ∂(−log p)/∂logit_s = −τ_s,          ∂²(−log p)/∂logit_s∂logit_r = [s = r] σ_s τ_s,
    ∂(−log q)/∂logit_s = τ_s p / q,     ∂²(−log q)/∂logit_s∂logit_r = τ_s τ_r p / q² − [s = r] σ_s τ_s p / q.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from funnelcast.compiled import compiled, compiled_for_speed
from funnelcast.data.columns import UNOBSERVED
from funnelcast.layers.calls import arrays_of
from funnelcast.layers.fused_reach import ONE, ZERO, follow
from funnelcast.layers.tape import perform

TWO: Final = np.float32(2)
TINY: Final = np.finfo(np.float32).tiny


def fused_losses(
    logits: Tensor, labels: Tensor, weight: Tensor | None, parents: Tensor, factors: Tensor
) -> Tensor:  # fmt: skip
    """`FusedLosses` of these."""
    sums: Tensor = FusedLosses.apply(logits, labels, weight, parents, factors)  # type: ignore[no-untyped-call]
    return sums


def counted(labels: Tensor) -> Tensor:
    """How many of labels (B, T), uint8 on the CPU, were observed of each step, or a tiny number instead of 0, (T,)."""
    counts = np.empty(labels.shape[1], np.float32)
    perform(count, labels.contiguous().numpy(), counts)
    return torch.from_numpy(counts)


class FusedLosses(torch.autograd.Function):
    """The sums (T,) over rows of each step's cross-entropy, from logits (B, T) in float32 on the CPU; twice
    differentiable, by the logits."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, weight: Tensor | None, parents: Tensor, factors: Tensor
    ) -> Tensor:
        """labels (B, T) uint8; weight (B,) or none; parents (T,) int64 of the steps along which probabilities are
        multiplied, -1 where there is none; factors (T,) on the losses of reached rows."""
        rows, steps = logits.shape
        slopes = logits.new_empty(rows, steps, steps)
        sums = logits.new_empty(steps)
        weights = logits.new_empty(0) if weight is None else weight.contiguous()
        logs = logits.new_empty(rows, 3, steps)
        tensors = (logits.contiguous(), labels.contiguous(), weights, parents, factors, sums, slopes, logs)
        perform(add_losses, *arrays_of(*tensors))
        ctx.save_for_backward(logits, *tensors[1:5], slopes, logs)
        return sums

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        by_logits: Tensor = FusedSlopes.apply(grad, *ctx.saved_tensors)  # type: ignore[no-untyped-call]
        return by_logits, None, None, None, None


class FusedSlopes(torch.autograd.Function):
    """The gradient of `FusedLosses` by the logits, which can be differentiated once."""

    @staticmethod
    def forward(
        ctx: Any,
        grad: Tensor,
        logits: Tensor,
        labels: Tensor,
        weights: Tensor,
        parents: Tensor,
        factors: Tensor,
        slopes: Tensor,
        logs: Tensor,
    ) -> Tensor:
        """grad (T,) of the sums; the others as `FusedLosses` saved them -> (B, T)."""
        by_logits, grad = torch.empty_like(logits), grad.contiguous()
        perform(weigh_slopes, *arrays_of(grad, slopes, by_logits))
        ctx.save_for_backward(grad, logits, labels, weights, parents, factors, slopes, logs)
        return by_logits

    @staticmethod
    def backward(ctx: Any, turn: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("FusedLosses has no third derivative; take plain operations")
        grad, logits, labels, weights, parents, factors, slopes, logs = ctx.saved_tensors
        by_logits, by_grad, turn = torch.zeros_like(logits), torch.empty_like(grad), turn.contiguous()
        tensors = (logits.contiguous(), labels, weights, parents, factors, logs, grad, turn, by_logits)
        perform(add_bends, *arrays_of(*tensors))
        perform(turn_slopes, *arrays_of(slopes, turn, by_grad))
        return by_grad, by_logits, *[None] * 6


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
def turn_slopes(slopes: Any, turn: Any, by_grad: Any) -> None:
    """Fills `by_grad` (T,) with the gradients of `grad` from turn (B, T), those of what `weigh_slopes` made."""
    exact = np.zeros(len(by_grad))  # float64, as there are many rows
    for b in range(len(slopes)):
        for t in range(len(by_grad)):
            for s in range(len(by_grad)):
                exact[t] += turn[b, s] * slopes[b, t, s]
    by_grad[:] = exact


@compiled
def count(labels: Any, counts: Any) -> None:
    """Fills `counts` (T,)."""
    for t in range(labels.shape[1]):
        observed = 0
        for b in range(len(labels)):
            observed += labels[b, t] != UNOBSERVED
        counts[t] = observed if observed else TINY


@compiled_for_speed
def add_losses(
    logits: Any, labels: Any, weight: Any, parents: Any, factors: Any, sums: Any, slopes: Any, logs: Any
) -> None:  # fmt: skip
    """Fills `sums` (T,), in `slopes` (B, T, T) the derivative of the loss of a row and step by each logit, and `logs`
    (B, 3, T): log p, log q and log τ."""
    steps = logits.shape[1]
    log_p, log_q, log_stop, p, stop = np.empty((5, steps), np.float32)
    exact = np.zeros(steps)  # float64, as there are many rows
    for b in range(len(logits)):
        for t in range(steps):
            parent = parents[t]
            follow(logits[b, t], t, parent, log_p, log_q, log_stop, p, stop)
            slopes[b, t, :] = 0
            logs[b, 0, t], logs[b, 1, t], logs[b, 2, t] = log_p[t], log_q[t], log_stop[t]
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
                    slopes[b, t, s] = -factor * stop[s]
                elif parent < 0:
                    slopes[b, t, s] = factor * p[t]
                else:
                    slopes[b, t, s] = factor * math.exp(log_p[t] - log_q[t] + log_stop[s])
                s = parents[s]
    sums[:] = exact


class Weighed(torch.autograd.Function):
    """Σ weights · losses / scale of a few steps, (T,) each, in float32 on the CPU: a loop each way, where each of
    torch's operations takes 20 to 40 µs in a step that has the cache for something else. Differentiable as often as
    wanted, by losses and weights."""

    @staticmethod
    def forward(ctx: Any, losses: Tensor, weights: Tensor, scale: Tensor) -> Tensor:
        total = losses.new_empty(())
        perform(_weigh, *arrays_of(losses, weights, scale, total))
        ctx.save_for_backward(losses, weights, scale)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        losses, weights, scale = ctx.saved_tensors
        if torch.is_grad_enabled():
            return grad * weights / scale, grad * losses / scale, None
        by_losses, by_weights = torch.empty_like(losses), torch.empty_like(weights)
        tensors = (losses, weights, scale, grad, by_losses, by_weights)
        perform(_weigh_back, *arrays_of(*tensors))
        return by_losses, by_weights, None


@compiled_for_speed
def _weigh(losses: Any, weights: Any, scale: Any, total: Any) -> None:
    total[()] = 0
    for t in range(len(losses)):
        total[()] += weights[t] * losses[t] / scale[t]


@compiled_for_speed
def _weigh_back(losses: Any, weights: Any, scale: Any, grad: Any, by_losses: Any, by_weights: Any) -> None:
    for t in range(len(losses)):
        each = grad[()] / scale[t]
        by_losses[t], by_weights[t] = each * weights[t], each * losses[t]


@compiled_for_speed
def add_bends(
    logits: Any, labels: Any, weight: Any, parents: Any, factors: Any, logs: Any, grad: Any, turn: Any, by_logits: Any
) -> None:  # fmt: skip
    """Adds to `by_logits` (B, T) the second derivative of Σ_t grad_t times the losses of step t, along turn (B, T)."""
    for b in range(len(logits)):
        log_stop = logs[b, 2]
        for t in range(len(grad)):
            if labels[b, t] == UNOBSERVED:
                continue
            factor = grad[t] * (weight[b] if len(weight) else ONE)
            if labels[b, t] == 1:
                factor *= factors[t]
            log_q, odds, along = logs[b, 1, t], logs[b, 0, t] - logs[b, 1, t], ZERO
            alone = labels[b, t] == 1 or parents[t] < 0  # σ_s τ_s is all there is: p / q = σ_s / τ_s of a first step
            s = t
            while s >= 0 and not alone:
                along += turn[b, s] * math.exp(log_stop[s] - log_q)  # τ_s / q is at most 1
                s = parents[s]
            s = t
            while s >= 0:
                own = turn[b, s] * math.exp(logits[b, s] + TWO * log_stop[s] + (ZERO if alone else odds))
                by_logits[b, s] += factor * (own if alone else along * math.exp(odds + log_stop[s]) - own)
                s = parents[s]
