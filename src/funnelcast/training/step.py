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
from typing import Any, Final

import torch
from torch import Tensor

from funnelcast.data.batch import Batch
from funnelcast.layers.dropout import BlockNoise, Noise, Seed
from funnelcast.layers.embedding import Embedded, Embedding
from funnelcast.layers.hashing import HashedIds
from funnelcast.layers.leaves import Leaves
from funnelcast.layers.mode import FAST, Mode, is_simple
from funnelcast.layers.passes import KINDS, Passes, put_numbers
from funnelcast.runtime.threads import Workers, called, together
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


@dataclass(frozen=True)
class Piece:
    """Some rows of a batch. A recorded pass has them looked up in its own memory."""

    batch: Batch
    embedding: Embedding | HashedIds
    trained: bool
    """Whether a gradient by the embedded rows is wanted."""
    whole: Whole
    seeds: Sequence[Seed]
    """Of its micro-batches' noise."""
    looked_up: Embedded | None = None
    """Leaves, if it is already."""

    @cached_property
    def x(self) -> Embedded:
        """Looked up; leaves."""
        if self.looked_up is not None:
            return self.looked_up
        with torch.no_grad():
            embedded: Embedded = self.embedding(self.batch, FAST)
        return embedded.leaves(trained=self.trained)

    @property
    def kind(self) -> tuple[object, ...] | None:
        """What must be the same in pieces that are recorded as one, beside shapes; none for what cannot be."""
        return (self.whole.rows,) if self.embedding.can_record(self.batch) else None

    @property
    def numbers(self) -> list[Tensor]:
        """What the objective reads of it, but for what is looked up."""
        own = (self.batch.ids, self.batch.labels, self.batch.weight, *self.whole.tensors())
        return [tensor for tensor in own if tensor is not None]

    def put(self, there: Piece) -> None:
        """Its numbers, and what is looked up, to where another one's are."""
        put_numbers(self, there)
        self.embedding(self.batch, FAST, there.x.flat.detach())

    def copy(self) -> Piece:
        """What the objective reads, in memory of its own."""
        whole = self.whole.copied()
        batch, seeds = self.batch.copied(), [seed.copy() for seed in self.seeds]
        x = self.x.copied().leaves(trained=self.trained)
        own = x._replace(ids=None if x.ids is None else batch.ids)
        return replace(self, batch=batch, whole=whole, seeds=seeds, looked_up=own)

    def gradient(self, tensors: Sequence[Tensor]) -> Embedded:
        """Of the embedded rows."""
        flat, *others = tensors
        return self.x.with_tensors(tensors) if others else Embedded(flat)


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
        whole = self.objective.whole(batch)
        rows, passes = self.piece_rows(len(batch)), self.passes
        starts, root = range(0, len(batch), rows), Seed(seed)
        passes.begin(lend=len(starts) <= self.workers)

        def reads() -> Sequence[Reading] | None:
            return self.reads(batch) if self.reads is not None else None

        def gradients(start: int) -> Gradients:
            part = batch.slice(start, start + rows)
            seeds = [root.of(each) for each in range(start, start + len(part), self.micro_batch)]
            piece = Piece(part, self.objective.model.embedding, self.trained.embedding, whole, seeds)
            return self._gradients(piece, *passes(piece, self._differentiate))

        jobs: list[Callable[[], Any]] = [*(partial(gradients, start) for start in starts), reads]
        *pieces, readings = together(workers, called, jobs)
        return add_up(batch, pieces, readings)

    def piece_rows(self, rows: int) -> int:
        """How many of a batch's rows go through the network together."""
        each = -(-rows // (self.micro_batch * self.workers))
        return self.micro_batch * (self.at_once or max(1, min(AT_ONCE, each)))

    def _gradients(self, piece: Piece, losses: Tensor, grads: list[Tensor]) -> Gradients:
        own = len(self.trained.parameters)
        embedded = [piece.gradient(grads[own:])] if self.trained.embedding else []
        return Gradients(piece.batch, losses, piece.whole.weights, [grads[:own]], embedded)

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
