"""One plain training step: the gradient of a batch, microbatch by microbatch, on one thread or several.

Every microbatch has dropout of its own, and gradients are added in their order. Who has several takes some at once, for
fewer calls: the number of workers changes the order of sums, and so the last bits, but no more. Threads share the
parameters, which nobody writes meanwhile, and nothing else; the math library must be set to one thread in each of them,
as it starts with all cores in every new one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from typing import Any, Final

import torch
from torch import Tensor

from funnelcast import ops
from funnelcast.data.batch import Batch
from funnelcast.data.loader import seed_of
from funnelcast.layers.embedding import Embedded
from funnelcast.runtime.threads import Workers, parallel_map, run_job
from funnelcast.training.gradients import Gradients, add_up
from funnelcast.training.objective import Microbatch, Objective
from funnelcast.training.row_gradients import Reading

AT_ONCE: Final = 2
"""Twice as many rows at once take about a tenth less time with experts and a fifth without, and twice the memory."""


@dataclass(frozen=True)
class Trained:
    """What gradients are by."""

    parameters: Sequence[Tensor]
    embedding: bool

    def of(self, x: Embedded) -> list[Tensor]:
        """The parameters, and the embedded rows if these are trained."""
        return [*self.parameters, *(x.tensors() if self.embedding else [])]


@dataclass(frozen=True)
class PlainStep:
    """Ordinary training: the gradient of the batch's loss at the parameters."""

    objective: Objective
    trained: Trained
    micro_batch: int
    at_once: int | None = None
    """Microbatches that go through the network together; none for up to `AT_ONCE` while all workers have some."""
    workers: int = 1
    """Threads that share a batch."""
    precision: ops.Precision = "float32"
    """Of the operands of matrix products."""
    reads: Callable[[Batch], Sequence[Reading]] | None = None
    """What a batch reads of the tables: done by the thread that is done with its microbatch first."""
    compiled: Callable[[Microbatch], tuple[Tensor, Tensor]] | None = None
    """The objective by torch.compile, which takes the place of kernels."""

    @cached_property
    def captured(self) -> ops.Captured[tuple[Tensor, list[Tensor]]]:
        """`_differentiate`, captured and replayed where kernels run."""
        reads = chain(self.objective.parameters(), self.objective.buffers())
        kinds = 2 if self.objective.model.device.type == "cpu" and self.compiled is None else 0
        return ops.Captured(self._differentiate, reads, kinds)

    def __call__(self, batch: Batch, seed: int, workers: Workers | None, *, watch: bool = False) -> Gradients:
        """Return the gradient of a batch, which may be overwritten by the next call.

        Args:
            batch: rows with labels.
            seed: of this batch's dropout.
            workers: threads, or none to run here.
            watch: of meta steps.
        """
        batch = self.objective.labelled(batch)
        totals, model = self.objective.totals(batch), self.objective.model
        rows, captured = self.rows_at_once(len(batch)), self.captured
        starts = range(0, len(batch), rows)
        captured.begin(static_outputs=len(starts) <= self.workers)

        def reads() -> Sequence[Reading] | None:
            return self.reads(batch) if self.reads is not None else None

        def gradients(start: int) -> Gradients:
            own = batch.slice(start, start + rows)
            seeds = [seed_of(seed, each) for each in range(start, start + len(own), self.micro_batch)]
            with self._compute():
                with torch.no_grad():
                    x = model.embedding(own)
                on_device = torch.tensor(seeds, device=x.flat.device)
                assert own.labels is not None
                part = Microbatch(x, own.labels, own.weight, totals, on_device, self.micro_batch)
                losses, grads = captured(part)
            return self._gradients(own, part, losses, grads)

        jobs: list[Callable[[], Any]] = [*(partial(gradients, start) for start in starts), reads]
        *parts, readings = parallel_map(workers, run_job, jobs)
        return add_up(batch, parts, readings)

    def rows_at_once(self, rows: int) -> int:
        """How many of a batch's rows go through the network together."""
        each = -(-rows // (self.micro_batch * self.workers))
        return self.micro_batch * (self.at_once or max(1, min(AT_ONCE, each)))

    def _compute(self) -> Any:
        return self.objective.model.compute(precision=self.precision, order=1 if self.compiled is None else 2)

    def _differentiate(self, rows: Microbatch) -> tuple[Tensor, list[Tensor]]:
        """Losses (T,), and the gradients by what is trained."""
        rows = rows.leaves(trained=self.trained.embedding)
        losses, combined = (self.compiled or self.objective)(rows)
        return losses.detach(), list(torch.autograd.grad(combined, self.trained.of(rows.x)))

    def _gradients(self, batch: Batch, rows: Microbatch, losses: Tensor, grads: list[Tensor]) -> Gradients:
        own = len(self.trained.parameters)
        embedded = [rows.x.with_tensors(grads[own:])] if self.trained.embedding else []
        return Gradients(batch, losses, rows.totals.weights, [grads[:own]], embedded)
