"""Numeric features as a network reads them: as they are, or by the piecewise linear encoding of bins."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import inf

import torch
from torch import Tensor, nn

from funnelcast.data.encoder import InputSpec


class Numbers(nn.Module):
    """Of a number x with bin edges b_0 < … < b_n the shares min(max((x - b_i) / (b_i+1 - b_i), 0), 1) of its n bins, so
    that a linear layer has a slope for each; other numbers as they are.

    The piecewise linear encoding of Gorishniy et al. 2022, but that nothing changes beyond the first and the last edge:
    amounts have long tails. A number with fewer than two bin edges is constant, 0.
    """

    def __init__(self, inputs: InputSpec) -> None:
        super().__init__()
        bins = {name: list(_bins(inputs.bin_edges.get(name))) for name in inputs.numeric}
        self.widths = {name: len(own) for name, own in bins.items()}
        """Numbers that a network reads of each feature."""
        self.is_plain = not inputs.bin_edges
        columns = [i for i, own in enumerate(bins.values()) for _ in own]
        fitted = torch.tensor([each for own in bins.values() for each in own]).view(-1, 4).t().contiguous()
        self.columns: Tensor
        self.fitted: Tensor
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.int64), persistent=False)
        self.register_buffer("fitted", fitted, persistent=False)

    @property
    def width(self) -> int:
        """Numbers per row."""
        return sum(self.widths.values())

    def forward(self, numeric: Tensor) -> Tensor:
        """(B, M) -> (B, width)."""
        if self.is_plain:
            return numeric
        start, length, least, most = self.fitted
        shares: Tensor = (numeric.index_select(1, self.columns) - start) / length
        return shares.clamp(least, most)


def _bins(bin_edges: tuple[float, ...] | None) -> Iterator[tuple[float, float, float, float]]:
    """Start, length, least and greatest number of each bin."""
    if bin_edges is None:
        yield 0.0, 1.0, -inf, inf
    elif len(bin_edges) < 2:
        yield 0.0, inf, 0.0, 0.0
    else:
        yield from ((low, high - low, 0.0, 1.0) for low, high in pairwise(bin_edges))
