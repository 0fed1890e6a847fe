"""Penalties that a model adds to the losses of its steps. To add one: a class with `__call__`, and a recipe's
`penalties` that returns it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from funnelcast.ops import Reach


class Penalty(Protocol):
    """A sum over rows, of which training minimises the mean next to the losses."""

    def __call__(self, reach: Reach, parents: tuple[int, ...], weight: Tensor | None) -> Tensor:
        """Return a scalar: reach (B, T), parents (T,) or -1, weight (B,) of the rows or none for 1 each."""


@dataclass(frozen=True)
class RiseAlongEdges:
    """AITM's calibrator (Xi et al. 2021, eq. 7): α Σ over edges of max(p(child) − p(parent), 0)."""

    factor: float
    """α."""

    def __call__(self, reach: Reach, parents: tuple[int, ...], weight: Tensor | None) -> Tensor:
        p = reach.log_p.exp()
        rises = [(p[:, t] - p[:, parent]).relu() for t, parent in enumerate(parents) if parent >= 0]
        if not rises:
            return p.new_zeros(())
        total = sum(rises[1:], rises[0])
        return self.factor * (total.sum() if weight is None else weight @ total)
