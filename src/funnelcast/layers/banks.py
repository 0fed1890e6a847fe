"""Banks: N networks of one shape with stacked weights. Experts and towers are banks.

A bank reads one input for all, (B, in), or one for each, (N, B, in), and returns (N, B, out).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from funnelcast import ops


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
        return ops.linear_bank(x, self.weight, self.bias)


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
        self.dropout = tuple(dropout) if any(dropout) else ()
        self.width = widths[-1]

    @property
    def weights(self) -> list[Tensor]:
        """(N, in, out) by layer."""
        return [layer.weight for layer in self.layers if isinstance(layer.weight, Tensor)]

    @property
    def biases(self) -> list[Tensor]:
        """(N, out) by layer."""
        return [layer.bias for layer in self.layers if isinstance(layer.bias, Tensor)]

    def forward(self, x: Tensor, key: ops.DropoutKey | None = None) -> Tensor:
        """(B, in) or (N, B, in) -> (N, B, widths[-1])."""
        return ops.mlp_bank(x, self.weights, self.biases, slope=self.slope, rates=self.dropout, key=key)
