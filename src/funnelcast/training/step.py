"""One plain training step: the gradient of a batch, piece by piece, on one thread or several.

Every micro-batch has its own noise, and gradients are added in their order. Who has several takes some at once, for
fewer calls: the number of workers changes the order of sums, and so the last bits, but no more. Threads share the
parameters, which nobody writes meanwhile, and nothing else; the math library must be set to one thread in each of them,
as it starts with all cores in every new one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from funnelcast.data.batch import Batch
from funnelcast.layers.dropout import BlockNoise, Noise, Seed
from funnelcast.layers.embedding import Embedded
from funnelcast.layers.leaves import Leaves
from funnelcast.layers.mode import FAST, Mode, is_simple
from funnelcast.layers.passes import KINDS, Passes
from funnelcast.threads import Workers, called, together
from funnelcast.training.gradients import Gradients, add_up
from funnelcast.training.objective import Objective, Whole
from funnelcast.training.row_gradients import Reading

AT_ONCE: Final = 2
"""Twice as many rows at once take about a tenth less time with experts and a fifth without, and twice the memory."""


ONE: Final = torch.ones(())
"""Where gradients begin, or each recorded pass would make one."""


@dataclass(frozen=True)
class Trained:
    """What gradients are by."""

    parameters: Sequence[Tensor]
    embedding: bool

    def wanted(self, x: Embedded) -> list[Tensor]:
        """The parameters, and the embedded rows if these are trained."""
        return [*self.parameters, *(x.tensors() if self.embedding else [])]


class Piece(NamedTuple):
    """Some rows of a batch."""

    batch: Batch
    x: Embedded
    """Looked up; leaves."""
    whole: Whole
    seeds: Sequence[Seed]
    """Of its micro-batches' noise."""

    @property
    def kind(self) -> tuple[object, ...] | None:
        """What must be the same in pieces that are recorded as one, beside shapes; none for what cannot be."""
        return (self.whole.rows,) if self.x.can_record else None

    @property
    def numbers(self) -> list[Tensor]:
        """What the objective reads of it."""
        own = (self.x.flat, self.x.ids, self.batch.labels, self.batch.weight, self.whole.weights, self.whole.weight)
        return [tensor for tensor in own if tensor is not None]

    def copy(self) -> Piece:
        """What the objective reads, in memory of its own."""
        whole = replace(self.whole, weights=self.whole.weights.clone(), weight=self.whole.weight.clone())
        seeds = [seed.copy() for seed in self.seeds]
        return Piece(self.batch.copied(), self.x.copied().leaves(trained=self.x.flat.requires_grad), whole, seeds)


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
    reads: Callable[[Batch], Sequence[Reading]] | None = None
    """What a batch reads of the tables: asked for by the thread that is done with its piece first."""
    compiled: Callable[..., tuple[Tensor, Tensor]] | None = None
    """The objective by torch.compile, which takes the place of loops of our own."""

    @cached_property
    def passes(self) -> Passes[Piece, tuple[Tensor, list[Tensor]]]:
        """What was recorded of it."""
        tensors = chain(self.objective.parameters(), self.objective.buffers())
        return Passes(tensors, kinds=KINDS if self.compiled is None else 0)

    def __call__(self, batch: Batch, seed: int, workers: Workers | None, *, watch: bool = False) -> Gradients:
        """`seed`: of this batch's noise; `workers`: threads, or none to run here; `watch`: there is nothing to tell.
        What this returns may be overwritten by the next call."""
        batch = self.objective.labelled(batch)
        whole = Whole.of(batch)
        rows, passes = self.piece_rows(len(batch)), self.passes
        starts, root = range(0, len(batch), rows), Seed(seed)
        passes.begin(lend=len(starts) <= self.workers)

        def reads() -> Sequence[Reading] | None:
            return self.reads(batch) if self.reads is not None else None

        def piece(start: int) -> Gradients:
            part = batch.slice(start, start + rows)
            with torch.no_grad():
                embedded = self.objective.model.embedding(part, FAST)
            x = embedded.leaves(trained=self.trained.embedding)
            blocks = range(start, start + len(part), self.micro_batch)
            seeds = [root.of(each) for each in blocks]
            found = passes(Piece(part, x, whole, seeds), self._differentiate)
            return self._gradients(part, x, whole, *found)

        jobs: list[Callable[[], Any]] = [*(partial(piece, start) for start in starts), reads]
        *pieces, readings = together(workers, called, jobs)
        return add_up(batch, pieces, readings)

    def piece_rows(self, rows: int) -> int:
        """How many of a batch's rows go through the network together."""
        each = -(-rows // (self.micro_batch * self.workers))
        return self.micro_batch * (self.at_once or max(1, min(AT_ONCE, each)))

    def _gradients(self, rows: Batch, x: Embedded, whole: Whole, losses: Tensor, grads: list[Tensor]) -> Gradients:
        own = len(self.trained.parameters)
        embedded = [x.with_tensors(grads[own:])] if self.trained.embedding else []
        return Gradients(rows, losses, whole.weights, [grads[:own]], embedded)

    def _differentiate(self, piece: Piece) -> tuple[Tensor, list[Tensor]]:
        """Losses (T,), and the gradients that are wanted."""
        noises = [noise_of(piece.x, seed) for seed in piece.seeds]
        noise = noises[0] if len(noises) == 1 else BlockNoise(noises, self.micro_batch)
        wanted = self.trained.wanted(piece.x)
        objective = self.compiled or self.objective
        fused = is_cpu(piece.x) and self.compiled is None
        mode = Mode(noise, fused=fused, half=self.half, wanted=Leaves(wanted) if fused else None)
        with torch.autocast(piece.x.flat.device.type, torch.bfloat16, enabled=self.half and not fused):
            losses, combined = objective(piece.batch, piece.x, piece.whole, mode)
        return losses.detach(), list(torch.autograd.grad(combined, wanted, ONE if is_simple(combined) else None))


def noise_of(x: Embedded, seed: Seed) -> Noise:
    """A source of dropout masks, on the device of the rows."""
    return Noise(seed, x.flat.device)


def is_cpu(x: Embedded) -> bool:
    """Where the hand-written kernels run."""
    return x.flat.device.type == "cpu"
