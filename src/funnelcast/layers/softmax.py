"""Softmaxes of few columns side by side, as one hand-written autograd function: for PyTorch's each row is a call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from funnelcast.compiled import compiled_for_speed
from funnelcast.layers.mode import Mode, is_simple
from funnelcast.layers.tape import perform


def softmaxes_by(mode: Mode, x: Tensor, widths: Sequence[int]) -> Tensor:
    """(B, K) -> (B, K): a softmax over the first `widths[0]` columns, one over the next `widths[1]`, and so on."""
    if mode.fused and mode.again is None and is_simple(x):
        out: Tensor = FusedSoftmaxes.apply(x, np.array(widths))  # type: ignore[no-untyped-call]
        return out
    if len(set(widths)) == 1:  # one softmax for all
        return x.view(-1, len(widths), widths[0]).softmax(dim=2).flatten(1)
    return torch.cat([each.softmax(dim=1) for each in x.split(list(widths), dim=1)], dim=1)


class FusedSoftmaxes(torch.autograd.Function):
    """Of x (B, K), in float32 on the CPU, and int64 widths that add up to K -> (B, K); once differentiable."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, widths: NDArray[np.int64]) -> Tensor:
        out = torch.empty(x.shape)
        perform(share_out, x.detach().contiguous().numpy(), widths, out.numpy())
        ctx.widths = widths
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        if torch.is_grad_enabled():
            raise RuntimeError("FusedSoftmaxes has no second derivative; ask for it by Mode(again=…)")
        (out,) = ctx.saved_tensors
        grad_x = torch.empty_like(out)
        perform(share_out_back, out.numpy(), grad.contiguous().numpy(), ctx.widths, grad_x.numpy())
        return grad_x, None


@compiled_for_speed
def share_out(x: Any, widths: Any, out: Any) -> None:
    """Fills `out` (B, K)."""
    for b in range(len(x)):
        begin = 0
        for width in widths:
            most, total = x[b, begin], np.float32(0)
            for k in range(begin + 1, begin + width):
                most = max(most, x[b, k])
            for k in range(begin, begin + width):
                out[b, k] = math.exp(x[b, k] - most)
                total += out[b, k]
            for k in range(begin, begin + width):
                out[b, k] /= total
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
