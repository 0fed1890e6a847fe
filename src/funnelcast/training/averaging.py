"""The mean of a model's latest states: a moving average of its parameters over the steps of a stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

EVERY = 8
"""Steps from one state that is taken into the average to the next: neighbours hardly differ, and tables are long."""


class Average:
    """a ← a + (1 - d) (θ - a) with θ after the first step and every eighth from there, d = min(decay⁸, n / (n + 9)),
    n = 0, 1, …: it begins with θ, and states near where training began soon weigh nothing (Polyak & Juditsky 1992).
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.parameters, self.decay = list(parameters), decay**EVERY
        self.values = [parameter.detach().clone() for parameter in self.parameters]
        self.steps = torch.zeros((), dtype=torch.int64)

    @torch.no_grad()
    def update(self) -> None:
        """After a step."""
        self.steps += 1
        times, rest = divmod(int(self.steps) - 1, EVERY)
        if rest == 0:
            decay = min(self.decay, times / (times + 9))
            torch._foreach_lerp_(self.values, [p.detach() for p in self.parameters], 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the parameters have the averaged values."""
        kept = [parameter.detach().clone() for parameter in self.parameters]
        self._set(self.values)
        try:
            yield
        finally:
            self._set(kept)

    @torch.no_grad()
    def _set(self, values: Sequence[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)

    def state(self) -> dict[str, Tensor]:
        """What `load` needs to go on."""
        return {"steps": self.steps, **{str(i): value for i, value in enumerate(self.values)}}

    def load(self, state: dict[str, Tensor]) -> None:
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
