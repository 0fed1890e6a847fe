"""Softmaxes of few columns side by side, as one hand-written autograd function: for PyTorch's each row is a call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from funnelcast.compiled import compiled_for_speed
from funnelcast.layers.calls import arrays_of
from funnelcast.layers.exponentials import exponentiate
from funnelcast.layers.mode import Mode, is_simple
from funnelcast.layers.tape import perform

BLOCK: Final = 64
"""Rows whose shares stay in the nearest cache while they are made."""


def softmaxes_by(mode: Mode, x: Tensor, widths: Sequence[int]) -> Tensor:
    """(B, K) -> (B, K): a softmax over the first `widths[0]` columns, one over the next `widths[1]`, and so on."""
    if mode.fused and is_simple(x):
        out: Tensor = FusedSoftmaxes.apply(x, np.array(widths))  # type: ignore[no-untyped-call]
        return out
    if len(set(widths)) == 1:  # one softmax for all
        return x.view(-1, len(widths), widths[0]).softmax(dim=2).flatten(1)
    return torch.cat([each.softmax(dim=1) for each in x.split(list(widths), dim=1)], dim=1)


class FusedSoftmaxes(torch.autograd.Function):
    """Of x (B, K), in float32 on the CPU, and int64 widths that add up to K -> (B, K); twice differentiable."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, widths: NDArray[np.int64]) -> Tensor:
        out = torch.empty(x.shape)
        perform(share_out, x.detach().contiguous().numpy(), widths, out.numpy())
        ctx.widths = widths
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return FusedSoftmaxesBack.apply(grad, *ctx.saved_tensors, ctx.widths), None  # type: ignore[no-untyped-call]


class FusedSoftmaxesBack(torch.autograd.Function):
    """The gradient of `FusedSoftmaxes` by x, from what went out, which can be differentiated once."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, out: Tensor, widths: NDArray[np.int64]) -> Tensor:
        grad, grad_x, ctx.widths = grad.contiguous(), torch.empty_like(out), widths
        perform(share_out_back, *arrays_of(out, grad), widths, grad_x.numpy())
        ctx.save_for_backward(grad, out)
        return grad_x

    @staticmethod
    def backward(ctx: Any, turn: Tensor) -> tuple[Tensor, Tensor, None]:
        if torch.is_grad_enabled():
            raise RuntimeError("FusedSoftmaxes has no third derivative; take plain operations")
        grad, out = ctx.saved_tensors
        by_grad, by_out = torch.empty_like(grad), torch.empty_like(out)
        perform(share_out_twice, *arrays_of(out, grad, turn.contiguous()), ctx.widths, *arrays_of(by_grad, by_out))
        return by_grad, by_out, None


@compiled_for_speed
def share_out(x: Any, widths: Any, out: Any) -> None:
    """Fills `out` (B, K), some rows at a time, which lie beside each other meanwhile: few columns make short loops."""
    turned, most = np.zeros((x.shape[1], BLOCK), np.float32), np.empty(BLOCK, np.float32)
    total = np.empty(BLOCK, np.float32)
    for start in range(0, len(x), BLOCK):
        rows, begin = min(BLOCK, len(x) - start), 0
        for k in range(x.shape[1]):
            for b in range(rows):
                turned[k, b] = x[start + b, k]
        for width in widths:
            most[:] = turned[begin]
            for k in range(begin + 1, begin + width):
                for b in range(BLOCK):
                    most[b] = max(most[b], turned[k, b])
            for k in range(begin, begin + width):
                for b in range(BLOCK):
                    turned[k, b] -= most[b]
                exponentiate(turned[k])
            total[:] = turned[begin]
            for k in range(begin + 1, begin + width):
                for b in range(BLOCK):
                    total[b] += turned[k, b]
            for k in range(begin, begin + width):
                for b in range(rows):
                    out[start + b, k] = turned[k, b] / total[b]
            begin += width


@compiled_for_speed
def share_out_back(out: Any, grad: Any, widths: Any, grad_x: Any) -> None:
    """Fills `grad_x` (B, K) from what went out and its gradient."""
    for b in range(len(out)):
        begin = 0
        for width in widths:
            total = np.float32(0)
            for k in range(begin, begin + width):
                total += out[b, k] * grad[b, k]
            for k in range(begin, begin + width):
                grad_x[b, k] = out[b, k] * (grad[b, k] - total)
            begin += width


@compiled_for_speed
def share_out_twice(out: Any, grad: Any, turn: Any, widths: Any, by_grad: Any, by_out: Any) -> None:
    """Fills the gradients of `grad` and `out` (B, K) from `turn`, that of what `share_out_back` made of them: with w, g
    and t of one softmax, w (t - ⟨w, t⟩) and t (g - ⟨w, g⟩) - ⟨w, t⟩ g."""
    for b in range(len(out)):
        begin = 0
        for width in widths:
            mean, turned = np.float32(0), np.float32(0)
            for k in range(begin, begin + width):
                mean += out[b, k] * grad[b, k]
                turned += out[b, k] * turn[b, k]
            for k in range(begin, begin + width):
                by_grad[b, k] = out[b, k] * (turn[b, k] - turned)
                by_out[b, k] = turn[b, k] * (grad[b, k] - mean) - turned * grad[b, k]
            begin += width
