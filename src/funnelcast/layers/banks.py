"""Banks: N networks of one shape with stacked weights. Experts and towers are banks.

A bank reads one input for all, (B, in), or one for each, (N, B, in), and returns (N, B, out).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from funnelcast.layers.dropout import LoopDropout
from funnelcast.layers.fused import fused_bank
from funnelcast.layers.mode import EVALUATE, Mode, is_simple


class LinearBank(nn.Module):
    """N linear layers."""

    def __init__(self, num: int, width_in: int, width_out: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num, width_in, width_out))
        self.bias = nn.Parameter(torch.empty(num, width_out)) if bias else None

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Xavier-uniform weights, zero biases."""
        bound = math.sqrt(6 / sum(self.weight.shape[1:]))
        self.weight.uniform_(-bound, bound, generator=generator)
        if self.bias is not None:
            self.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in) or (N, B, in) -> (N, B, out)."""
        x = x.expand(len(self.weight), -1, -1) if x.dim() == 2 else x
        bias = self.bias.unsqueeze(1) if self.bias is not None else x.new_zeros(())
        if self.weight.shape[2] == 1:  # a sum is faster than a product with one column
            return (x * self.weight.transpose(1, 2)).sum(2, keepdim=True) + bias
        return torch.baddbmm(bias, x, self.weight)


class MLPBank(nn.Module):
    """N perceptrons with ReLU after every layer, or a leaky one."""

    def __init__(
        self, num: int, width_in: int, widths: Sequence[int], dropout: Sequence[float] = (), slope: float = 0.0
    ) -> None:
        """`dropout`: rate after each layer; none by default, as it costs more than a wide layer does. `slope`: of the
        activation below 0; a unit with one above 0 always has a gradient, so that no network can die."""
        super().__init__()
        self.slope = slope
        self.layers = nn.ModuleList(
            LinearBank(num, before, after) for before, after in zip([width_in, *widths[:-1]], widths, strict=True)
        )
        self.dropout = tuple(dropout) or (0.0,) * len(widths)
        self.width = widths[-1]

    def for_fused(self, rows: int, mode: Mode) -> tuple[list[LoopDropout], list[Tensor]]:
        """Dropout per layer, and each layer's weight and bias."""
        parameters: list[Any] = [p for layer in self.layers for p in (layer.weight, layer.bias)]
        return [mode.draw_in_loops(rate, rows) for rate in self.dropout], parameters

    def forward(self, x: Tensor, mode: Mode = EVALUATE) -> Tensor:
        """(B, in) or (N, B, in) -> (N, B, widths[-1])."""
        if mode.fused and is_simple(x) and not (self.slope and mode.noise is not None and any(self.dropout)):
            return fused_bank(x, *self.for_fused(x.shape[-2], mode), mode, slope=self.slope)
        for layer, rate in zip(self.layers, self.dropout, strict=True):
            x = mode.dropout(functional.leaky_relu(layer(x), self.slope), rate)
        return x
