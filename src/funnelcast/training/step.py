"""One plain training step: the gradient of a batch, piece by piece, on one thread or several.

Every micro-batch has its own noise, and gradients are added in their order. Who has several takes some at once, for
fewer calls: the number of workers changes the order of sums, and so the last bits, but no more. Threads share the
parameters, which nobody writes meanwhile, and nothing else; the math library must be set to one thread in each of them,
as it starts with all cores in every new one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

from funnelcast.data.batch import Batch
from funnelcast.data.loader import seed_of
from funnelcast.layers.dropout import Noise
from funnelcast.layers.embedding import Embedded
from funnelcast.layers.leaves import Leaves
from funnelcast.layers.mode import FAST, Mode
from funnelcast.threads import together
from funnelcast.training.gradients import Gradients, add_up
from funnelcast.training.objective import Objective, Whole
from funnelcast.training.passes import Found, Passes, Piece

AT_ONCE: Final = 2
"""Twice as many rows at once take about a tenth less time with experts and a fifth without, and twice the memory."""


@dataclass(frozen=True)
class Trained:
    """What gradients are by."""

    parameters: Sequence[Tensor]
    embedding: bool

    def wanted(self, x: Embedded) -> list[Tensor]:
        """The parameters, and the embedded rows if these are trained."""
        return [*self.parameters, *(x.tensors() if self.embedding else [])]


@dataclass(frozen=True)
class PlainStep:
    """Ordinary training: the gradient of the batch's loss at the parameters."""

    objective: Objective
    trained: Trained
    micro_batch: int
    at_once: int | None = None
    """Micro-batches that go through the network together; none for up to `AT_ONCE` while all workers have some."""
    workers: int = 1
    """Threads that share a batch."""
    half: bool = False
    """Whether products are of bfloat16."""
    compiled: Callable[..., tuple[Tensor, Tensor]] | None = None
    """The objective by torch.compile, which takes the place of loops of our own."""

    @cached_property
    def passes(self) -> Passes:
        """What was recorded of it."""
        return Passes(self.objective, can_record=self.compiled is None)

    def __call__(self, batch: Batch, seed: int, workers: Executor | None, *, watch: bool = False) -> Gradients:
        """`seed`: of this batch's noise; `workers`: threads, or none to run here; `watch`: there is nothing to tell.
        What this returns may be overwritten by the next call."""
        batch = self.objective.labelled(batch)
        whole = Whole.of(batch)
        rows, passes = self.piece_rows(len(batch)), self.passes
        starts = range(0, len(batch), rows)
        passes.begin(lend=len(starts) <= self.workers)

        def piece(start: int) -> Gradients:
            part = batch.slice(start, start + rows)
            with torch.no_grad():
                embedded = self.objective.model.embedding(part, FAST)
            x = embedded.leaves(trained=self.trained.embedding)
            blocks = range(start, start + len(part), self.micro_batch)
            noises = [noise_of(x, seed_of(seed, each)) for each in blocks]
            found = passes(Piece(part, x, whole, noises, self.micro_batch), self._differentiate)
            return self._gradients(part, x, whole, *found)

        return add_up(batch, together(workers, piece, starts))

    def piece_rows(self, rows: int) -> int:
        """How many of a batch's rows go through the network together."""
        each = -(-rows // (self.micro_batch * self.workers))
        return self.micro_batch * (self.at_once or max(1, min(AT_ONCE, each)))

    def _gradients(self, rows: Batch, x: Embedded, whole: Whole, losses: Tensor, grads: list[Tensor]) -> Gradients:
        own = len(self.trained.parameters)
        embedded = x.with_tensors(grads[own:]) if self.trained.embedding else None
        return Gradients(rows, losses.detach(), whole.weights, grads[:own], embedded)

    def _differentiate(self, piece: Piece) -> Found:
        wanted = self.trained.wanted(piece.x)
        objective = self.compiled or self.objective
        fused = is_cpu(piece.x) and self.compiled is None
        mode = Mode(piece.noise, fused=fused, half=self.half, wanted=Leaves(wanted) if fused else None)
        with torch.autocast(piece.x.flat.device.type, torch.bfloat16, enabled=self.half and not fused):
            losses, combined = objective(piece.batch, piece.x, piece.whole, mode)
        return losses, list(torch.autograd.grad(combined, wanted))


def noise_of(x: Embedded, seed: int) -> Noise:
    """A source of dropout masks, on the device of the rows."""
    return Noise(seed, x.flat.device)


def is_cpu(x: Embedded) -> bool:
    """Where the hand-written kernels run."""
    return x.flat.device.type == "cpu"
