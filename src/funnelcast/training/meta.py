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
from funnelcast.layers.passes import Passes
from funnelcast.runtime.threads import Workers, together
from funnelcast.training.algorithms import Inner, Outer, Share, TaskRows, outer_gradient
from funnelcast.training.gradients import Gradients, Told, Watched
from funnelcast.training.inner import InnerLoop
from funnelcast.training.objective import Objective, replica
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
        rows, embedding, root = self.objective.labelled(batch.batch), self.objective.model.embedding, Seed(seed)
        ends = list(accumulate((support + query for support, query in batch.sizes), initial=0))
        tasks = [
            TaskRows(rows.slice(start, stop), support, 1 / len(batch.sizes), embedding, root.of(start))
            for start, stop, (support, _) in zip(ends, ends[1:], batch.sizes, strict=False)
        ]
        results = together(workers, lambda task: self._task(task, watch=watch), tasks)
        told = Told(len(tasks), _lacking(tasks), _mean([watched for _, watched in results if watched is not None]))
        return self._gradients(rows, [share for share, _ in results], tasks, told)

    def _task(self, task: TaskRows, *, watch: bool) -> tuple[Share, Watched | None]:
        loop = self.loops.get()

        def run(rows: TaskRows) -> Outer:
            return outer_gradient(loop, rows, self.config, self.rates)

        try:
            if not watch:
                return self.passes(task, run, Outer.share), None
            outer = self.passes(task, run)
            share = outer.share()
            return share, _watch(loop, task, outer, share)
        finally:
            self.loops.put(loop)

    def _gradients(self, rows: Batch, shares: list[Share], tasks: list[TaskRows], told: Told) -> Gradients:
        """Task by task, as the pieces of a batch."""
        first = [0 if self.config.order == "reptile" else task.support for task in tasks]
        asked = [task.batch.slice(start, len(task.batch)) for start, task in zip(first, tasks, strict=True)]
        weights = sum_of([self.objective.whole(each).weights for each in asked])
        losses = sum_of([share.losses for share in shares]) / len(shares)
        touching = None if self._all_rows_count else torch.cat([_is_query(task) for task in tasks])
        embedded = [piece for share in shares for piece in share.embedded]
        return Gradients(rows, losses, weights, list(map(self._in_order, shares)), embedded, touching, told=told)

    def _in_order(self, share: Share) -> list[Tensor]:
        """By the trained parameters, and then by the rates."""
        ids = {id(p) for p in self.adapted.values()}
        adapted, rest = iter(share.by_adapted), iter(share.by_rest)
        return [*(next(adapted if id(p) in ids else rest) for p in self.trained.parameters), *share.by_rates]

    @property
    def _all_rows_count(self) -> bool:
        """Whether each row has a loss of its own in what is minimised."""
        return self.config.order == "reptile" or self.config.support_loss > 0


def _is_query(task: TaskRows) -> Tensor:
    return torch.arange(len(task.batch)) >= task.support


def _lacking(tasks: list[TaskRows]) -> Tensor:
    labels = [task.batch.slice(0, task.support).labels for task in tasks]
    return sum_of([(each == 1).sum(0) == 0 for each in labels if each is not None])


def _watch(loop: InnerLoop, task: TaskRows, outer: Outer, share: Share) -> Watched:
    query = task.halves()[1]
    before, after = (loop.losses(query, leaves)[0] for leaves in (loop.start, outer.leaves))
    size = norm([*share.by_adapted, *share.by_rest])
    through = [] if outer.through is None else [*outer.through.by_adapted, *outer.through.by_rest]
    return Watched(before, after, abs(outer.factor) * norm(through) / size if through and size else 0.0)


def norm(tensors: Sequence[Tensor]) -> float:
    """Of all their numbers together."""
    return float(torch.stack([tensor.norm() for tensor in tensors]).norm())


def _mean(watched: list[Watched]) -> Watched | None:
    if not watched:
        return None
    before, after = (sum_of(losses) / len(watched) for losses in zip(*(w[:2] for w in watched), strict=True))
    return Watched(before, after, sum(w.through for w in watched) / len(watched))
