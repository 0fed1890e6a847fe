"""Operations on few columns, at which torch's are slow: the softmaxes of gates, and the output layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from funnelcast.compiled import compiled_for_speed
from funnelcast.kernels.cpu.buffers import are_float32, arrays
from funnelcast.kernels.cpu.graph import launch, once


def logits(x: Tensor, weight: Tensor, bias: Tensor) -> Any:
    """`ops.logits`, of an input for each step."""
    if x.dim() == 2 or not are_float32(x, weight):
        return NotImplemented
    return _Logits.apply(x.contiguous(), weight.contiguous(), bias)  # type: ignore[no-untyped-call]


def softmax_gates(logits: Tensor, widths: Sequence[int]) -> Any:
    """`ops.softmax_gates`."""
    if not are_float32(logits):
        return NotImplemented
    return _SoftmaxGates.apply(logits.contiguous(), np.array(widths))  # type: ignore[no-untyped-call]


class _Logits(torch.autograd.Function):
    """x (T, B, H), weight (T, H, 1) and bias (T, 1) -> (B, T)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        out = x.new_empty(x.shape[1], len(x))
        launch(_logits, *arrays(x, weight, bias, out))
        ctx.save_for_backward(x, weight)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        once()
        x, weight = ctx.saved_tensors
        grads = torch.empty_like(x), torch.empty_like(weight), weight.new_empty(len(x), 1)
        launch(_logits_backward, *arrays(x, weight, grad.contiguous(), *grads))
        return grads


class _SoftmaxGates(torch.autograd.Function):
    """logits (B, K) and int64 widths that add up to K -> (B, K)."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, widths: Any) -> Tensor:
        out, ctx.widths = torch.empty_like(logits), widths
        launch(_softmax_gates, *arrays(logits, out), widths)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        once()
        (out,) = ctx.saved_tensors
        found = torch.empty_like(out)
        launch(_softmax_gates_backward, *arrays(out, grad.contiguous(), found), ctx.widths)
        return found, None


@compiled_for_speed
def _logits(x: Any, weight: Any, bias: Any, out: Any) -> None:
    steps, rows, width = x.shape
    for t in range(steps):
        for b in range(rows):
            total = bias[t, 0]
            for h in range(width):
                total += x[t, b, h] * weight[t, h, 0]
            out[b, t] = total


@compiled_for_speed
def _logits_backward(x: Any, weight: Any, grad: Any, grad_x: Any, grad_weight: Any, grad_bias: Any) -> None:
    steps, rows, width = x.shape
    grad_weight[:], grad_bias[:] = 0, 0
    for t in range(steps):
        for b in range(rows):
            own = grad[b, t]
            grad_bias[t, 0] += own
            for h in range(width):
                grad_x[t, b, h] = own * weight[t, h, 0]
                grad_weight[t, h, 0] += own * x[t, b, h]


@compiled_for_speed
def _softmax_gates(logits: Any, out: Any, widths: Any) -> None:
    for b in range(len(logits)):
        end = 0
        for width in widths:
            start, end = end, end + width
            most, total = logits[b, start], np.float32(0)
            for k in range(start, end):
                most = max(most, logits[b, k])
            for k in range(start, end):
                out[b, k] = math.exp(logits[b, k] - most)
                total += out[b, k]
            for k in range(start, end):
                out[b, k] /= total


@compiled_for_speed
def _softmax_gates_backward(out: Any, grad: Any, grad_logits: Any, widths: Any) -> None:
    for b in range(len(out)):
        end = 0
        for width in widths:
            start, end = end, end + width
            mean = np.float32(0)
            for k in range(start, end):
                mean += out[b, k] * grad[b, k]
            for k in range(start, end):
                grad_logits[b, k] = out[b, k] * (grad[b, k] - mean)
