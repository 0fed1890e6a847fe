"""The last layer, a number per step from each step's own vector, as one hand-written autograd function."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from funnelcast.compiled import compiled_for_speed
from funnelcast.layers.calls import arrays_of
from funnelcast.layers.tape import perform


class FusedOutput(torch.autograd.Function):
    """logit_bt = x_tb · w_t + c_t of x (T, B, H), weight (T, H, 1) and bias (T, 1) -> (B, T), in float32 on the CPU;
    twice differentiable."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        x, weight, logits = x.contiguous(), weight.contiguous(), x.new_empty(x.shape[1], len(x))
        perform(add_products, *arrays_of(x, weight, bias.contiguous(), logits))
        ctx.save_for_backward(x, weight)
        return logits

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return FusedOutputBack.apply(grad, *ctx.saved_tensors)  # type: ignore[no-untyped-call]


class FusedOutputBack(torch.autograd.Function):
    """The gradients of `FusedOutput`, which can be differentiated once."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        grad = grad.contiguous()
        grads = torch.empty_like(x), torch.zeros_like(weight), grad.new_zeros(len(x), 1)
        perform(add_gradients, *arrays_of(x, weight, grad, *grads))
        ctx.save_for_backward(grad, x, weight)
        return grads

    @staticmethod
    def backward(ctx: Any, *turns: Tensor) -> tuple[Tensor, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("FusedOutput has no third derivative; take plain operations")
        grad, x, weight = ctx.saved_tensors
        found = torch.empty_like(grad), torch.empty_like(x), torch.zeros_like(weight)
        turns = tuple(turn.contiguous() for turn in turns)
        perform(add_gradients_twice, *arrays_of(x, weight, grad, *turns, *found))
        return found


def fused_output(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`FusedOutput` of these."""
    logits: Tensor = FusedOutput.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return logits


@compiled_for_speed
def add_products(x: Any, weight: Any, bias: Any, logits: Any) -> None:
    """Fills `logits` (B, T)."""
    steps, rows, width = x.shape
    for t in range(steps):
        for b in range(rows):
            total = np.float32(0)
            for h in range(width):
                total += x[t, b, h] * weight[t, h, 0]
            logits[b, t] = total + bias[t, 0]


@compiled_for_speed
def add_gradients(x: Any, weight: Any, grad: Any, grad_x: Any, grad_weight: Any, grad_bias: Any) -> None:
    """Fills `grad_x` (T, B, H), and adds to `grad_weight` (T, H, 1) and `grad_bias` (T, 1), from grad (B, T)."""
    steps, rows, width = x.shape
    for t in range(steps):
        for b in range(rows):
            own = grad[b, t]
            grad_bias[t, 0] += own
            for h in range(width):
                grad_x[t, b, h] = own * weight[t, h, 0]
                grad_weight[t, h, 0] += own * x[t, b, h]


@compiled_for_speed
def add_gradients_twice(
    x: Any, weight: Any, grad: Any, turn_x: Any, turn_weight: Any, turn_bias: Any, by_grad: Any, by_x: Any,
    by_weight: Any,
) -> None:  # fmt: skip
    """From gradients `turn_…` of what `add_gradients` gives: fills `by_grad` (B, T) and `by_x` (T, B, H), and adds to
    `by_weight` (T, H, 1)."""
    steps, rows, width = x.shape
    for t in range(steps):
        for b in range(rows):
            own, total = grad[b, t], turn_bias[t, 0]
            for h in range(width):
                total += turn_x[t, b, h] * weight[t, h, 0] + turn_weight[t, h, 0] * x[t, b, h]
                by_x[t, b, h] = own * turn_weight[t, h, 0]
                by_weight[t, h, 0] += own * turn_x[t, b, h]
            by_grad[b, t] = total
