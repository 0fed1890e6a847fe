"""Linear layers of their own, through the compiled loops of a bank of one."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import linear

from funnelcast.layers.dropout import LoopDropout
from funnelcast.layers.fused import fused_bank
from funnelcast.layers.mode import Mode, is_simple


def linear_by(mode: Mode, x: Tensor, weight: Tensor, bias: Tensor | None = None, *, rectified: bool = False) -> Tensor:
    """x Wᵀ + b of x (…, in), weight (out, in) and bias (out,); `rectified`: its positive part."""
    if mode.fused and is_simple(x):
        bias = weight.new_zeros(len(weight)) if bias is None else bias
        parameters = (weight.t().unsqueeze(0), bias.unsqueeze(0))
        out = fused_bank(x.flatten(0, -2), [LoopDropout()], parameters, mode, linear=not rectified)
        return out.view(*x.shape[:-1], len(weight))
    y = linear(x, weight, bias)
    return y.relu() if rectified else y
