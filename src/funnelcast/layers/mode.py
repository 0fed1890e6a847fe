"""How a forward pass runs: handed down as an argument, so that threads and replicas share nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from funnelcast.compiled import compiled
from funnelcast.errors import FunnelcastError
from funnelcast.layers.leaves import Leaves
from funnelcast.layers.tiles import HAS_HALF

_ALL = 1 << 16
_LOWEST = -(1 << 15)


class Dropout(NamedTuple):
    """What falls away after a layer: elements whose 16-bit draw is below a limit. The others are scaled up."""

    draws: Tensor | None = None  # int16, one per element of the layer's output; none where nothing falls away
    limit: int = _LOWEST

    @property
    def scale(self) -> float:
        return _ALL / (_ALL - (self.limit - _LOWEST))

    def __call__(self, x: Tensor) -> Tensor:
        if self.draws is None:
            return x
        return x * (self.draws >= self.limit).to(x.dtype).mul_(self.scale)


@dataclass(frozen=True)
class Mode:
    """A pass in evaluation by default: no dropout, plain operations."""

    noise: torch.Generator | None = None
    """Source of dropout masks; none means no dropout."""
    fused: bool = False
    """Banks run as one hand-written autograd function, which is faster. Off wherever an export is wanted."""
    wanted: Leaves | None = None
    """What derivatives will be asked for by, as far as `fused` has a choice; none for all that can be asked for."""
    again: Leaves | None = None
    """What the gradient is by that will be differentiated once more; without it `fused` has no second derivative."""
    half: bool = False
    """With `fused`: products of bfloat16, summed in float32, where nothing is differentiated twice."""

    def dropout(self, x: Tensor, rate: float) -> Tensor:
        """`x` with elements zeroed at `rate` and the others scaled up."""
        return self.draw(rate, x.shape)(x)

    def draw(self, rate: float, shape: tuple[int, ...]) -> Dropout:
        """A draw for each element of `shape`; four from each 64-bit number, as drawing is what dropout costs."""
        if self.noise is None or rate == 0:
            return Dropout()
        elements = torch.Size(shape).numel()
        draws = torch.empty(-(-elements // 4), dtype=torch.int64, device=self.noise.device)
        if draws.device.type == "cpu":
            seed = torch.empty((), dtype=torch.int64).random_(-(2**63), None, generator=self.noise)
            splitmix(draws.numpy(), seed.item())
        else:
            draws.random_(-(2**63), None, generator=self.noise)
        return Dropout(draws.view(torch.int16)[:elements].view(shape), _LOWEST + round(rate * _ALL))


Precision = Literal["float32", "bfloat16"]
"""Of the operands of matrix products."""


def is_half(precision: Precision, device: torch.device) -> bool:
    """Whether they are bfloat16. Raises FunnelcastError where the processor has no such products, or for a slip."""
    if precision not in get_args(Precision):
        raise FunnelcastError(f"precision {precision!r} is not known; take one of {', '.join(get_args(Precision))}")
    if precision == "bfloat16" and device.type == "cpu" and not HAS_HALF:
        raise FunnelcastError(
            "precision = 'bfloat16': this processor has no products of bfloat16 (AVX-512 BF16); take precision = "
            "'float32'"
        )
    return precision == "bfloat16"


EVALUATE = Mode()
FAST = Mode(fused=True)
"""The same by compiled loops, where these can."""
HALF = Mode(fused=True, half=True)
"""By those, and with products of bfloat16."""


def is_simple(x: Tensor) -> bool:
    """Whether compiled loops can take it."""
    return x.device.type == "cpu" and x.dtype == torch.float32


@compiled
def splitmix(draws: Any, seed: Any) -> None:
    """Fills int64 `draws` (n,) from a seed, twice as fast as torch does. Steele, Lea and Flood 2014 (SplitMix64)."""
    state = np.uint64(seed)
    for i in range(len(draws)):
        state += np.uint64(0x9E3779B97F4A7C15)
        z = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        draws[i] = np.int64(z ^ (z >> np.uint64(31)))
