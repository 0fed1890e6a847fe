"""How a forward pass runs: handed down as an argument, so that threads and replicas share nothing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mode:
    """A pass in evaluation by default: no dropout, plain operations."""

    noise: torch.Generator | None = None
    """Source of dropout masks; none means no dropout."""
    fused: bool = False
    """Banks run as one hand-written autograd function: faster, once differentiable. Off wherever a second derivative or
    an export is wanted."""

    def dropout(self, x: Tensor, rate: float) -> Tensor:
        """`x` with elements zeroed at `rate` and the others scaled up."""
        if self.noise is None or rate == 0:
            return x
        return x * _mask(x, rate, self.noise)


def _mask(x: Tensor, rate: float, noise: torch.Generator) -> Tensor:
    """0 at `rate`, 1 / (1 - rate) elsewhere; four elements from each 64-bit draw, as drawing is what dropout costs."""
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device)
    draws.random_(-(2**63), None, generator=noise)
    dropped = round(rate * 65536)
    keep = draws.view(torch.int16)[: x.numel()].view_as(x) >= dropped - 32768
    return keep.to(x.dtype).mul_(65536 / (65536 - dropped))


EVALUATE = Mode()
