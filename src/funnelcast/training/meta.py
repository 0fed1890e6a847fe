"""Algorithm 1: adapt to each task of a batch on its support rows, and learn from how well that does on its query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain
from queue import SimpleQueue

import torch
from torch import Tensor

from funnelcast.data.batch import Batch
from funnelcast.data.episodes import TaskBatch
from funnelcast.layers.dropout import Seed
from funnelcast.layers.gates import sum_of
from funnelcast.layers.mode import FAST
from funnelcast.layers.passes import Passes
from funnelcast.threads import Workers, together
from funnelcast.training.algorithms import Inner, Outer, TaskRows, outer_gradient
from funnelcast.training.gradients import Gradients, Told, Watched
from funnelcast.training.inner import Found, InnerLoop, Rows
from funnelcast.training.objective import Objective, Whole, replica
from funnelcast.training.step import Trained


@dataclass(frozen=True)
class MetaStep:
    """The outer gradient of a batch of tasks: the mean of theirs."""

    objective: Objective
    trained: Trained
    """Without `rates`."""
    config: Inner
    adapted: dict[str, Tensor]
    """The trained parameters that adapt, by their name in the objective."""
    rates: Sequence[Tensor]
    """What α is multiplied by for each of them, where that is learned."""
    loops: SimpleQueue[InnerLoop]
    """One per worker, with modules of its own around the same parameters: an adapted one stands in a module."""

    @cached_property
    def passes(self) -> Passes[TaskRows, Outer]:
        """What was recorded of it: tasks of one size, as what is differentiated twice takes much memory."""
        return Passes(chain(self.objective.parameters(), self.objective.buffers(), self.rates), kinds=1)

    @classmethod
    def of(
        cls,
        objective: Objective,
        trained: Trained,
        config: Inner,
        adapted: dict[str, Tensor],
        rates: Sequence[Tensor],
        micro_batch: int,
        workers: int,
    ) -> MetaStep:
        """`micro_batch`: rows that go through the network at once."""
        ids, loops = {id(p) for p in adapted.values()}, SimpleQueue[InnerLoop]()
        rest = [p for p in trained.parameters if id(p) not in ids]
        for _ in range(workers):
            loops.put(InnerLoop(replica(objective), adapted, rest, embedding=trained.embedding, size=micro_batch))
        return cls(objective, trained, config, adapted, rates, loops)

    def __call__(self, batch: TaskBatch, seed: int, workers: Workers | None, *, watch: bool = False) -> Gradients:
        """`seed`: of this batch's noise; `workers`: threads, or none to run here; `watch`: tell what adapting did."""
        rows = self.objective.labelled(batch.batch)
        with torch.no_grad():
            embedded = self.objective.model.embedding(rows, FAST)
        ends = list(accumulate((support + query for support, query in batch.sizes), initial=0))
        whole = Rows(rows, embedded, Seed(seed))
        tasks = [
            TaskRows(whole.slice(start, stop), support)
            for start, stop, (support, _) in zip(ends, ends[1:], batch.sizes, strict=False)
        ]
        results = together(workers, lambda task: self._task(task, len(tasks), watch=watch), tasks)
        told = Told(len(tasks), _lacking(tasks), _mean([watched for _, watched in results if watched is not None]))
        return self._gradients(rows, [outer for outer, _ in results], tasks, told)

    def _task(self, task: TaskRows, tasks: int, *, watch: bool) -> tuple[Outer, Watched | None]:
        """A task's share of the mean over so many."""
        loop = self.loops.get()

        def run(rows: TaskRows) -> Outer:
            return outer_gradient(loop, rows, self.config, self.rates)

        try:
            if not watch:
                return self.passes(task, run, lambda outer: outer.share(tasks)), None
            outer = self.passes(task, run)
            return outer.share(tasks), _watch(loop, task, outer)
        finally:
            self.loops.put(loop)

    def _gradients(self, rows: Batch, shares: list[Outer], tasks: list[TaskRows], told: Told) -> Gradients:
        """Task by task, as the pieces of a batch."""
        asked = [task.both if self.config.order == "reptile" else task.halves()[1] for task in tasks]
        weights = sum_of([Whole.of(each.batch).weights for each in asked])
        losses = sum_of([each.found.losses for each in shares if each.found.losses is not None])
        touching = None if self._all_rows_count else torch.cat([_is_query(task) for task in tasks])
        embedded = [piece for each in shares for piece in each.embedded]
        by_task = [self._in_order(each.found) + each.by_rates for each in shares]
        return Gradients(rows, losses, weights, by_task, embedded, touching, told=told)

    def _in_order(self, found: Found) -> list[Tensor]:
        """Of the trained parameters."""
        ids = {id(p) for p in self.adapted.values()}
        adapted, rest = iter(found.by_adapted), iter(found.by_rest)
        return [next(adapted if id(p) in ids else rest) for p in self.trained.parameters]

    @property
    def _all_rows_count(self) -> bool:
        """Whether each row has a loss of its own in what is minimised."""
        return self.config.order == "reptile" or self.config.support_loss > 0


def _is_query(task: TaskRows) -> Tensor:
    return torch.arange(len(task.both.batch)) >= task.support


def _lacking(tasks: list[TaskRows]) -> Tensor:
    labels = [task.halves()[0].batch.labels for task in tasks]
    return sum_of([(each == 1).sum(0) == 0 for each in labels if each is not None])


def _watch(loop: InnerLoop, task: TaskRows, outer: Outer) -> Watched:
    query = task.halves()[1]
    before, after = (loop.losses(query, leaves)[0] for leaves in (loop.start, outer.leaves))
    size = norm([*outer.found.by_adapted, *outer.found.by_rest])
    through = [] if outer.through is None else [*outer.through.by_adapted, *outer.through.by_rest]
    return Watched(before, after, norm(through) / size if through and size else 0.0)


def norm(tensors: Sequence[Tensor]) -> float:
    """Of all their numbers together."""
    return float(torch.stack([tensor.norm() for tensor in tensors]).norm())


def _mean(watched: list[Watched]) -> Watched | None:
    if not watched:
        return None
    before, after = (sum_of(losses) / len(watched) for losses in zip(*(w[:2] for w in watched), strict=True))
    return Watched(before, after, sum(w.through for w in watched) / len(watched))
