"""The plain step by torch.compile: for graphics cards, as the CPU has kernels of our own."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from funnelcast.data.batch import Batch
from funnelcast.errors import FunnelcastError
from funnelcast.runtime.threads import Workers
from funnelcast.training.gradients import Gradients
from funnelcast.training.objective import Microbatch
from funnelcast.training.step import PlainStep


@dataclass(frozen=True)
class CompiledStep:
    """The same gradients to float tolerance, by code that torch.compile makes in the first batches."""

    step: PlainStep

    @classmethod
    def of(cls, step: PlainStep, backend: str | Callable[..., Any] = "inductor") -> CompiledStep:
        """`backend`: one of torch.compile's."""
        objective = step.objective
        compiled = torch.compile(objective.of_pooled, backend=backend)

        def run(rows: Microbatch) -> tuple[Tensor, Tensor]:
            key = rows.key
            found: tuple[Tensor, Tensor] = compiled(objective.model.pooling(rows.x, key), rows, key)
            return found

        return cls(replace(step, compiled=run, workers=1))

    def __call__(self, batch: Batch, seed: int, workers: Workers | None, *, watch: bool = False) -> Gradients:
        """As the plain step, in this thread, as torch.compile is not made for several. Raises FunnelcastError where it
        fails."""
        try:
            with warnings.catch_warnings():  # torch's tracing looks at what it warns of
                warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf", UserWarning)
                return self.step(batch, seed, None, watch=watch)
        except torch._dynamo.exc.TorchDynamoException as fault:
            cause = str(getattr(fault, "inner_exception", fault)).strip().splitlines()[0]
            raise FunnelcastError(
                f"optimizer.compile = true: torch.compile failed ({cause}); it needs a C++ compiler, such as g++: "
                "install one, or take compile = false"
            ) from fault
