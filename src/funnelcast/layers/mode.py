"""How a forward pass runs: handed down as an argument, so that threads and replicas share nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

import torch
from torch import Tensor

from funnelcast.errors import FunnelcastError
from funnelcast.layers.amx import HAS_AMX, ask_permission
from funnelcast.layers.dropout import BlockNoise, Dropout, LoopDropout, Noise, drawn_by_loops
from funnelcast.layers.leaves import Leaves
from funnelcast.layers.repeats import Repeats
from funnelcast.layers.tiles import HAS_HALF

HAS_BFLOAT16: Final = HAS_HALF and (ask_permission() or not HAS_AMX)
"""Whether the CPU multiplies it for this process."""


@dataclass(frozen=True)
class Mode:
    """A pass in evaluation by default: no dropout, plain operations."""

    noise: Noise | BlockNoise | None = None
    """Source of dropout masks; none means no dropout."""
    fused: bool = False
    """Banks run as one hand-written autograd function, which is faster. Off wherever an export is wanted."""
    wanted: Leaves | None = None
    """What derivatives will be asked for by, as far as `fused` has a choice; none for all that can be asked for."""
    again: Leaves | None = None
    """What the gradient is by that will be differentiated once more; without it `fused` has no second derivative."""
    half: bool = False
    """With `fused`: products of bfloat16, summed in float32, where nothing is differentiated twice."""
    repeats: Repeats | None = None
    """With `fused`: what repeats in the rows that come out of pooling. In their gradient one row of each code then has
    the sum of all that have it."""

    def dropout(self, x: Tensor, rate: float) -> Tensor:
        """`x` with elements zeroed at `rate` and the others scaled up."""
        return self.draw(rate, x.shape)(x)

    def draw(self, rate: float, shape: tuple[int, ...]) -> Dropout:
        """A draw for each element of `shape`."""
        return Dropout() if self.noise is None or rate == 0 else self.noise.draw(rate, shape)

    def draw_in_loops(self, rate: float, rows: int) -> LoopDropout:
        """The same for rows of networks, left to the loops over a bank."""
        return LoopDropout() if self.noise is None or rate == 0 else drawn_by_loops(self.noise, rate, rows)


Precision = Literal["float32", "bfloat16"]
"""Of the operands of matrix products."""


def is_half(precision: Precision, device: torch.device) -> bool:
    """Whether they are bfloat16. Raises FunnelcastError where the processor has no such products, or for a slip."""
    if precision not in get_args(Precision):
        raise FunnelcastError(f"precision {precision!r} is not known; take one of {', '.join(get_args(Precision))}")
    if precision == "bfloat16" and device.type == "cpu" and not HAS_BFLOAT16:
        lacks = "the system keeps AMX from this process" if HAS_HALF else "this processor has no AVX-512 BF16"
        raise FunnelcastError(f"precision = 'bfloat16': {lacks}, which multiplies it; take precision = 'float32'")
    return precision == "bfloat16"


EVALUATE = Mode()
FAST = Mode(fused=True)
"""The same by compiled loops, where these can."""
HALF = Mode(fused=True, half=True)
"""By those, and with products of bfloat16."""


def is_simple(x: Tensor) -> bool:
    """Whether compiled loops can take it."""
    return x.device.type == "cpu" and x.dtype == torch.float32
