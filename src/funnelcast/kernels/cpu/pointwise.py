"""Softmaxes of gates, logits of steps, and reach: kernels where torch's operations cost more calls than work."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from funnelcast.compiled import compiled_for_speed, inlined
from funnelcast.kernels.cpu.buffers import arrays
from funnelcast.kernels.cpu.graph import launch

BLOCK: Final = 64
"""Rows whose softmaxes stay in the nearest cache while they are made."""
HALF: Final = np.float32(0.5)
ONE: Final = np.float32(1)
ZERO: Final = np.float32(0)


def first_order(grad_enabled: bool) -> None:
    """Raise RuntimeError where a backward pass is to be differentiated: kernels have no second derivative."""
    if grad_enabled:  # what `once_differentiable` returns would be taken for a constant
        raise RuntimeError("kernels have no second derivative; take ops.compute(order=2)")


def softmax_gates(logits: Tensor, widths: Sequence[int]) -> Any:
    """`ops.softmax_gates`: one kernel, where torch takes a call for each row of few columns."""
    return _Softmaxes.apply(logits, np.array(widths))  # type: ignore[no-untyped-call]


class _Softmaxes(torch.autograd.Function):
    """Of x (B, K) and int64 widths that add up to K -> (B, K)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, widths: NDArray[np.int64]) -> Tensor:
        out = torch.empty(x.shape)
        launch(_softmaxes, x.detach().contiguous().numpy(), widths, out.numpy())
        ctx.widths = widths
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        first_order(torch.is_grad_enabled())
        (out,) = ctx.saved_tensors
        grad_x = torch.empty_like(out)
        launch(_softmaxes_backward, *arrays(out, grad.contiguous()), ctx.widths, grad_x.numpy())
        return grad_x, None


@compiled_for_speed
def _softmaxes(x: Any, widths: Any, out: Any) -> None:
    """Some rows at a time, which lie beside each other meanwhile: few columns make short loops."""
    columns, most = np.zeros((x.shape[1], BLOCK), np.float32), np.empty(BLOCK, np.float32)
    total = np.empty(BLOCK, np.float32)
    for start in range(0, len(x), BLOCK):
        rows, begin = min(BLOCK, len(x) - start), 0
        for k in range(x.shape[1]):
            for b in range(rows):
                columns[k, b] = x[start + b, k]
        for width in widths:
            most[:] = columns[begin]
            for k in range(begin + 1, begin + width):
                for b in range(BLOCK):
                    most[b] = max(most[b], columns[k, b])
            total[:] = 0
            for k in range(begin, begin + width):
                for b in range(BLOCK):
                    columns[k, b] = math.exp(columns[k, b] - most[b])
                    total[b] += columns[k, b]
            for k in range(begin, begin + width):
                for b in range(rows):
                    out[start + b, k] = columns[k, b] / total[b]
            begin += width


@compiled_for_speed
def _softmaxes_backward(out: Any, grad: Any, widths: Any, grad_x: Any) -> None:
    for b in range(len(out)):
        begin = 0
        for width in widths:
            total = np.float32(0)
            for k in range(begin, begin + width):
                total += out[b, k] * grad[b, k]
            for k in range(begin, begin + width):
                grad_x[b, k] = out[b, k] * (grad[b, k] - total)
            begin += width


def logits(x: Tensor, weight: Tensor, bias: Tensor) -> Any:
    """`ops.logits`."""
    return _Logits.apply(x, weight, bias) if x.dim() == 3 else NotImplemented  # type: ignore[no-untyped-call]


class _Logits(torch.autograd.Function):
    """x (T, B, H), weight (T, H, 1) and bias (T, 1) -> (B, T)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        x, weight, out = x.contiguous(), weight.contiguous(), x.new_empty(x.shape[1], len(x))
        launch(_dot, *arrays(x, weight, bias.contiguous(), out))
        ctx.save_for_backward(x, weight)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        first_order(torch.is_grad_enabled())
        x, weight = ctx.saved_tensors
        grads = torch.empty_like(x), torch.zeros_like(weight), grad.new_zeros(len(x), 1)
        launch(_dot_backward, *arrays(x, weight, grad.contiguous(), *grads))
        return grads


@compiled_for_speed
def _dot(x: Any, weight: Any, bias: Any, out: Any) -> None:
    steps, rows, width = x.shape
    for t in range(steps):
        for b in range(rows):
            total = np.float32(0)
            for h in range(width):
                total += x[t, b, h] * weight[t, h, 0]
            out[b, t] = total + bias[t, 0]


@compiled_for_speed
def _dot_backward(x: Any, weight: Any, grad: Any, grad_x: Any, grad_weight: Any, grad_bias: Any) -> None:
    steps, rows, width = x.shape
    for t in range(steps):
        for b in range(rows):
            own = grad[b, t]
            grad_bias[t, 0] += own
            for h in range(width):
                grad_x[t, b, h] = own * weight[t, h, 0]
                grad_weight[t, h, 0] += own * x[t, b, h]


def reach(logits: Tensor, parents: tuple[int, ...]) -> Any:
    """`ops.reach`, without a gradient."""
    if torch.is_grad_enabled() and logits.requires_grad:
        return NotImplemented
    log_p, log_q = torch.empty(logits.shape), torch.empty(logits.shape)
    launch(_reach, *arrays(logits.contiguous(), log_p, log_q), np.array(parents, np.int64))
    return log_p, log_q


@compiled_for_speed
def _reach(logits: Any, log_p: Any, log_q: Any, parents: Any) -> None:
    own_p, own_q, log_stop, p, stop = np.empty((5, logits.shape[1]), np.float32)
    for b in range(len(logits)):
        for t in range(len(parents)):
            reach_step(logits[b, t], t, parents[t], own_p, own_q, log_stop, p, stop)
            log_p[b, t], log_q[b, t] = own_p[t], own_q[t]


@inlined
def reach_step(x: Any, t: int, parent: int, log_p: Any, log_q: Any, log_stop: Any, p: Any, stop: Any) -> None:
    """Fill element t, of a step whose logit is x, of arrays (T,) by step: log p, log q, log τ, p and τ, with p and q
    the probabilities of having reached the step and not, and τ of not reaching it from its parent. The numerics are
    those of `ops.reach`."""
    small = math.exp(-abs(x))
    rest = math.log1p(small)
    log_p[t], log_stop[t] = min(x, ZERO) - rest, min(-x, ZERO) - rest
    log_q[t] = log_stop[t]
    stop[t] = small / (ONE + small) if x >= 0 else ONE / (ONE + small)
    p[t] = ONE / (ONE + small) if x >= 0 else small / (ONE + small)
    if parent < 0:
        return
    log_p[t] += log_p[parent]
    p[t] *= p[parent]
    if p[t] > HALF:
        own = log_p[parent] + log_stop[t]
        most = max(log_q[parent], own)
        log_q[t] = most + math.log1p(math.exp(min(log_q[parent], own) - most))
    else:
        log_q[t] = math.log1p(-p[t])
