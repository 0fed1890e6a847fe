"""A meta step: adapt to each task of a batch on its support rows, and learn from how well that does on its query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from queue import SimpleQueue

import torch
from torch import Tensor

from funnelcast.data.batch import Batch
from funnelcast.data.episodes import TaskBatch
from funnelcast.data.loader import seed_of
from funnelcast.runtime.threads import Workers, parallel_map
from funnelcast.training.algorithms import Inner, OuterGradient, Task, outer_gradient
from funnelcast.training.gradients import AdaptationMetrics, Gradients, MetaMetrics, sum_of
from funnelcast.training.inner import InnerLoop, Rows
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
        """`seed`: of this batch's dropout; `workers`: threads, or none to run here; `watch`: measure what adapting
        did."""
        rows, embedding = self.objective.labelled(batch.batch), self.objective.model.embedding
        ends = list(accumulate((support + query for support, query in batch.sizes), initial=0))

        def looked_up(start: int, stop: int) -> Rows:
            own = rows.slice(start, stop)
            with torch.no_grad(), self.objective.model.compute():
                return Rows(own, embedding(own), seed_of(seed, start))

        def run(task: tuple[int, int, int]) -> tuple[OuterGradient, AdaptationMetrics | None]:
            start, stop, support = task
            return self._task(Task(looked_up(start, stop), support, 1 / len(batch.sizes)), watch=watch)

        spans = [(start, stop, own) for start, stop, (own, _) in zip(ends, ends[1:], batch.sizes, strict=False)]
        found, adaptation = zip(*parallel_map(workers, run, spans), strict=True)
        metrics = MetaMetrics(len(spans), _lacking(rows, spans), _mean([own for own in adaptation if own is not None]))
        return self._gradients(rows, list(found), spans, metrics)

    def _task(self, task: Task, *, watch: bool) -> tuple[OuterGradient, AdaptationMetrics | None]:
        loop = self.loops.get()
        try:
            outer = outer_gradient(loop, task, self.config, self.rates)
            return outer, _measured(loop, task, outer) if watch else None
        finally:
            self.loops.put(loop)

    def _gradients(
        self, rows: Batch, found: list[OuterGradient], spans: list[tuple[int, int, int]], metrics: MetaMetrics
    ) -> Gradients:
        """Task by task, as the microbatches of a batch."""
        first = [start if self.config.order == "reptile" else start + support for start, _, support in spans]
        counted = [rows.slice(start, stop) for start, (_, stop, _) in zip(first, spans, strict=True)]
        weights = sum_of([self.objective.totals(each).weights for each in counted])
        losses = sum_of([own.losses for own in found]) / len(found)
        is_query = [torch.arange(stop - start) >= support for start, stop, support in spans]
        touching = None if self._all_rows_count else torch.cat(is_query)
        embedded = [part for own in found for part in own.embedded]
        return Gradients(rows, losses, weights, list(map(self._in_order, found)), embedded, touching, metrics=metrics)

    def _in_order(self, share: OuterGradient) -> list[Tensor]:
        """By the trained parameters, and then by the rates."""
        ids = {id(p) for p in self.adapted.values()}
        adapted, rest = iter(share.by_adapted), iter(share.by_rest)
        return [*(next(adapted if id(p) in ids else rest) for p in self.trained.parameters), *share.by_rates]

    @property
    def _all_rows_count(self) -> bool:
        """Whether each row has a loss of its own in what is minimised."""
        return self.config.order == "reptile" or self.config.support_loss > 0


def _lacking(rows: Batch, spans: list[tuple[int, int, int]]) -> Tensor:
    """(T,) tasks whose support has no row that reached the step."""
    assert rows.labels is not None
    return sum_of([(rows.labels[start : start + support] == 1).sum(0) == 0 for start, _, support in spans])


def _measured(loop: InnerLoop, task: Task, outer: OuterGradient) -> AdaptationMetrics:
    before, after = (loop.losses(task.query, leaves)[0] for leaves in (loop.start, outer.leaves))
    size = norm([*outer.by_adapted, *outer.by_rest])
    return AdaptationMetrics(before, after, norm(outer.through) / size if outer.through and size else 0.0)


def norm(tensors: Sequence[Tensor]) -> float:
    """Of all their numbers together."""
    return float(torch.stack([tensor.norm() for tensor in tensors]).norm())


def _mean(watched: list[AdaptationMetrics]) -> AdaptationMetrics | None:
    if not watched:
        return None
    before, after = (sum_of(losses) / len(watched) for losses in zip(*(w[:2] for w in watched), strict=True))
    return AdaptationMetrics(before, after, sum(w.through for w in watched) / len(watched))
