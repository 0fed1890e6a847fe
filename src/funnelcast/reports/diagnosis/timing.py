"""Where the time of a training step goes."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch

from funnelcast.data.columns import Columns
from funnelcast.models.network import FunnelModel
from funnelcast.ops import Precision
from funnelcast.training.gradients import Gradients
from funnelcast.training.losses import LossWeights
from funnelcast.training.objective import Microbatch, Objective
from funnelcast.training.stage_run import Plan, stage_run_of
from funnelcast.training.stages import Stage

ROUNDS = 5


class _Watch:
    """Seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds.setdefault(name, []).append(time.perf_counter() - started)


def timing(model: FunnelModel, weights: LossWeights, plan: Plan, train: Columns) -> list[dict[str, Any]]:
    """Of a plain step of a batch on one thread, the slowest first: medians, and shares of all. The model stays as it
    is."""
    model, weights = copy.deepcopy(model), copy.deepcopy(weights)
    stage_run = stage_run_of(Stage(), model, weights, plan, train, None)
    objective, watch = Objective(model, weights, plan.loss), _Watch()
    batches = stage_run.loader.epoch(0)
    for _ in range(ROUNDS + 1):
        with watch.part("reading rows"):
            batch = next(batches, None)
        if batch is None:
            break
        _step(objective, batch, stage_run.optimizer, watch, plan.optimizer.precision)
    seconds = {name: median(own[1:] or own) for name, own in watch.seconds.items()}
    total = sum(seconds.values())
    slowest = sorted(seconds.items(), key=lambda each: -each[1])
    return [{"part": name, "seconds": own, "share": own / total} for name, own in slowest]


def _step(objective: Objective, batch: Any, optimizer: Any, watch: _Watch, precision: Precision) -> None:
    model = objective.model
    batch = objective.labelled(batch.to(model.device))
    with watch.part("looking up embeddings"), torch.no_grad(), model.compute():
        looked = model.embedding(batch)
    x = looked.leaves(trained=True)
    targets = [*optimizer.dense.values(), *optimizer.loss_weights.values(), *x.tensors()]
    with watch.part("forward"):
        totals = objective.totals(batch)
        with model.compute(precision=precision):
            losses, combined = objective(Microbatch(x, batch.labels, batch.weight, totals))
    with watch.part("backward"):
        grads = list(torch.autograd.grad(combined, targets))
    own = len(targets) - len(x.tensors())
    with watch.part("optimizer"):
        embedded = x.with_tensors(grads[own:])
        optimizer.step(Gradients(batch, losses, totals.weights, [grads[:own]], [embedded]))
