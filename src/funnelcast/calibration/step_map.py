"""A strictly increasing map of a step's log odds given its parent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

Kind = Literal["none", "affine", "isotonic"]


@dataclass(frozen=True)
class StepMap:
    """y of x: linear between its nodes, and of the slopes `below` and `above` them. By default y = x."""

    kind: Kind = "none"
    x: Sequence[float] = (0.0,)
    """(K,) nodes, ascending."""
    y: Sequence[float] = (0.0,)
    """(K,) their images, ascending."""
    below: float = 1.0
    """> 0."""
    above: float = 1.0
    """> 0."""
    gain: float = 0.0
    """By which the log-loss of the rows that it was fitted to falls, cross-fitted, in nats a row."""
    error: float = 0.0
    """Standard error of the gain."""

    def __call__(self, x: Tensor) -> Tensor:
        """(B,) float64 -> (B,)."""
        if self.kind == "none":
            return x
        nodes, images, slopes = (tensor.to(x.device) for tensor in self._tensors)
        segment = torch.bucketize(x.contiguous(), nodes)  # nodes below x
        node = (segment - 1).clamp(min=0)
        return images[node] + slopes[segment] * (x - nodes[node])

    @cached_property
    def _tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Nodes and images (K,), slopes (K + 1,)."""
        nodes, images = (torch.tensor(values, dtype=torch.float64) for values in (self.x, self.y))
        between = images.diff() / nodes.diff()
        return nodes, images, torch.cat([nodes.new_tensor([self.below]), between, nodes.new_tensor([self.above])])

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)
