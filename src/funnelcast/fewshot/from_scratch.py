"""Training from scratch on the support: what the rows of a task are worth by themselves."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from funnelcast.data.batch import Batch
from funnelcast.data.columns import UNOBSERVED, Columns
from funnelcast.data.encoder import Encoder
from funnelcast.data.loader import seed_of
from funnelcast.evaluation.metrics import log_loss
from funnelcast.evaluation.rows import Bools
from funnelcast.fewshot.methods import Unadapted
from funnelcast.fewshot.tasks import Logs, TaskOutput
from funnelcast.models.network import FunnelModel, NetworkRecipe
from funnelcast.training.losses import LossConfig, build_loss_weights
from funnelcast.training.optimizers import OptimizerConfig
from funnelcast.training.stage_run import Plan, StageRun, stage_run_of
from funnelcast.training.stages import Stage
from funnelcast.training.statistics import fit_layer, folds_of

HELD_OUT = 5
"""One row in so many is held out, to stop by."""
STAGE = Stage(epochs=20, patience=3)
"""The metric is the log-loss of the output."""
BATCHES, SMALLEST = 32, 16
"""Batches of an epoch, at most; and their rows, at least."""


@dataclass(frozen=True)
class Scratch:
    """A fresh network whose first predictions are the support's rates, trained until held-out rows are worse for it.

    Unless they have positives and others, held-out rows cannot tell when to stop: then it stays at the rates.
    """

    recipe: NetworkRecipe
    encoder: Encoder
    target: TaskOutput
    loss: LossConfig
    learning_rate: float = 0.01
    stage: Stage = STAGE
    seed: int = 0

    def __call__(self, support: Columns, query: Columns) -> Logs:
        model = self.recipe.fresh(self.encoder, self.seed)
        rates = _rates(model, support)
        _start_at(model, rates)
        is_held = self._held_out(support)
        rows, held = (support.take(np.flatnonzero(where)) for where in (~is_held, is_held))
        if self._has_both(rows) and self._has_both(held):
            self._train(model, self._with_statistics(model, rows), held, rates)
        return Unadapted(model, self.target)(support, query)

    def _held_out(self, support: Columns) -> Bools:
        """(N,), with its share of the rows that reached each number of steps."""
        assert support.labels is not None
        order = np.random.default_rng(self.seed).permutation(len(support))
        depth = (support.labels[order] == 1).sum(1)
        held = np.zeros(len(support), np.bool_)
        held[order[np.argsort(-depth, kind="stable")][1::HELD_OUT]] = True
        return held

    def _with_statistics(self, model: FunnelModel, rows: Columns) -> Columns:
        """The rows that are trained on; where the model reads target statistics they are fitted on these rows alone, of
        which each reads what those of other folds say."""
        config, layer = self.recipe.statistics, model.statistics
        if config is None or layer is None:
            return rows
        folds = folds_of(len(rows), min(config.folds, len(rows)), self.seed)
        fit_layer(layer, Batch.of(rows), np.arange(len(rows)), folds, "other")
        return replace(rows, fold=folds)

    def _train(self, model: FunnelModel, rows: Columns, held: Columns, rates: list[float]) -> None:
        """Leaves the model in its best state, which may be the first."""
        stage_run = self._stage_run(model, rows, rates)
        best, state, waited = self._loss(model, held), copy.deepcopy(model.state_dict()), 0
        for epoch in range(self.stage.epochs):
            self._pass(stage_run, epoch)
            loss = self._loss(model, held)
            waited = 0 if loss < best else waited + 1
            if waited == 0:
                best, state = loss, copy.deepcopy(model.state_dict())
            if waited == self.stage.patience:
                break
        model.load_state_dict(state)

    def _stage_run(self, model: FunnelModel, rows: Columns, rates: list[float]) -> StageRun:
        size = max(SMALLEST, -(-len(rows) // BATCHES))
        optimizer = OptimizerConfig(learning_rate=self.learning_rate, batch_size=size)
        plan = Plan(self.loss, optimizer, (self.stage,), self.seed)
        return stage_run_of(self.stage, model, build_loss_weights(self.loss, rates), plan, rows, None)

    def _pass(self, stage_run: StageRun, epoch: int) -> None:
        for number, batch in enumerate(stage_run.loader.epoch(epoch)):
            stage_run.optimizer.step(stage_run.step(batch, seed_of(self.seed, "scratch", epoch, number), None))

    def _has_both(self, rows: Columns) -> bool:
        return len(np.unique(self.target.labels(self.target.counted(rows)))) == 2

    def _loss(self, model: FunnelModel, held: Columns) -> float:
        counted = self.target.counted(held)
        return log_loss(self.target.labels(counted), *Unadapted(model, self.target)(counted, counted))


def _rates(model: FunnelModel, support: Columns) -> list[float]:
    """(T,) of what each logit is of, with half a row of either kind more than there are: 1/2 without rows."""
    assert support.labels is not None
    labels, rates = support.labels, []
    for t, parent in enumerate(model.parents):
        counted = labels[:, t] != UNOBSERVED
        if parent >= 0 and model.head == "chain":
            counted &= labels[:, parent] == 1
        own = labels[counted, t]
        rates.append((float(own.sum()) + 0.5) / (len(own) + 1))
    return rates


@torch.no_grad()
def _start_at(model: FunnelModel, rates: list[float]) -> None:
    assert model.output.bias is not None
    model.output.weight.zero_()
    log_odds = torch.tensor([math.log(rate / (1 - rate)) for rate in rates])
    model.output.bias.view(model.members, -1).copy_(log_odds)
