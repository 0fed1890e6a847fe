"""The training loop: stages of epochs of steps, early stopping on the dev rows, checkpoints that resume exactly."""

from __future__ import annotations

import math
import time
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns
from funnelcast.data.loader import Loader, seed_of
from funnelcast.data.progress import Progress as OnProgress
from funnelcast.data.progress import silent
from funnelcast.errors import DataError, FunnelcastError
from funnelcast.evaluation.funnel import FunnelMetrics, measure_funnel
from funnelcast.evaluation.score import score
from funnelcast.models.network import FunnelModel
from funnelcast.schema.funnel import Funnel
from funnelcast.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from funnelcast.training.interrupt import Interruption
from funnelcast.training.log import EpochLog
from funnelcast.training.losses import LossConfig, LossWeights
from funnelcast.training.optimizers import Optimizer, OptimizerConfig
from funnelcast.training.stages import Stage
from funnelcast.training.step import PlainStep
from funnelcast.training.workers import threads


@dataclass(frozen=True)
class Plan:
    """What a run trains and how; a resumed run must have the same."""

    loss: LossConfig
    optimizer: OptimizerConfig
    stages: tuple[Stage, ...]
    seed: int
    keep_negatives: float = 1.0
    workers: int = 1
    checkpoint_seconds: float = 60.0


class Trainer:
    """Trains one model in a run folder: `log.jsonl`, one line per epoch, and `checkpoint/`."""

    def __init__(
        self,
        model: FunnelModel,
        loss_weights: LossWeights,
        funnel: Funnel,
        plan: Plan,
        folder: Path,
        progress: OnProgress = silent,
    ) -> None:
        self.model, self.loss_weights, self.funnel, self.plan = model, loss_weights, funnel, plan
        self.log, self.checkpoint = EpochLog(folder / "log.jsonl", funnel.names, progress), folder / "checkpoint"
        self.at = Progress()
        self.best: dict[str, Tensor] = {}
        self._saved = time.monotonic()

    def run(self, train: Columns, dev: Columns, *, trained: bool = False) -> FunnelModel:
        """Train to the end, from the last checkpoint if there is one; returns the model in its best state.

        That may be the state a stage began with, but for the first stage of a model that was not `trained` before.

        Raises FunnelcastError for a stage without parameters and when training diverges, DataError when the metric is
        undefined on the dev rows, KeyboardInterrupt after Ctrl-C with a checkpoint written.
        """
        plan = self.plan
        self._check_stages()
        loader = Loader.of(train, plan.optimizer.batch_size, plan.seed, plan.keep_negatives)
        resumed = load_checkpoint(self.checkpoint)
        if resumed is not None:
            self.at = resumed[1]
        self.log.cut(self.at.log_bytes)
        with threads(plan.workers) as workers, Interruption() as interruption:
            while not self.at.done:
                stage = plan.stages[self.at.stage]
                optimizer = self._optimizer(stage)
                if resumed is not None:
                    self._restore(resumed[0], optimizer)
                    resumed = None
                if not self.at.begun:
                    self._begin_stage(stage, dev, trained or self.at.stage > 0)
                self._run_stage(stage, optimizer, loader, dev, workers, interruption)
        if resumed is not None:
            self._restore(resumed[0], None)
        self._load(self.best)
        return self.model

    def _check_stages(self) -> None:
        for stage in self.plan.stages:
            if not self.model.groups(stage.groups):
                raise FunnelcastError(
                    f"stage {stage.name!r} trains {', '.join(stage.groups)}, and the model has none of these; "
                    "name groups that it has, or train = 'all'"
                )

    def _optimizer(self, stage: Stage) -> Optimizer:
        groups = [group for group in stage.groups if group != "embedding"]
        tables = self.model.embedding.all_tables() if "embedding" in stage.groups else []
        weights = dict(self.loss_weights.named_parameters(prefix="loss"))
        config, rate = self.plan.optimizer, stage.learning_rate
        return Optimizer(config, self.model.groups(groups), weights, self.plan.loss.learning_rate, tables, rate)

    def _begin_stage(self, stage: Stage, dev: Columns, trained: bool) -> None:
        """See that the metric is defined before time is spent, and take a trained model for the best so far."""
        value = stage.value(self._measure(dev), self.funnel)
        if math.isnan(value):
            raise DataError(
                f"{stage.metric} is undefined on the {len(dev)} dev rows: they lack reached rows or others, of some "
                "weight; see that the labels are right, or give dev more rows"
            )
        if trained:
            self.at.best, self.best = value, self._state()
        self.at.begun = True

    def _run_stage(
        self,
        stage: Stage,
        optimizer: Optimizer,
        loader: Loader,
        dev: Columns,
        workers: Executor | None,
        interruption: Interruption,
    ) -> None:
        step = PlainStep(
            self.model,
            self.loss_weights,
            self.plan.loss,
            self.plan.optimizer.micro_batch,
            bool(optimizer.tables),
            optimizer.parameters,
        )
        while self.at.epoch < stage.epochs and self.at.waited < stage.patience:
            self.log.begin(stage, loader, self.at)
            for batch in loader.epoch(self._epoch_number(), self.at.batch):
                self._train_batch(step, optimizer, batch.to(next(self.model.parameters()).device), workers)
                self.log.report(self.at, self.loss_weights.task_weights())
                if interruption.wanted or self._is_due():
                    self.save(optimizer)
                if interruption.wanted:
                    raise KeyboardInterrupt
            self._end_epoch(stage, dev)
            self.save(optimizer)
            if interruption.wanted:
                raise KeyboardInterrupt
        self._load(self.best)
        done = self.at.stage + 1 == len(self.plan.stages)
        self.at = Progress(stage=self.at.stage + 1, log_bytes=self.at.log_bytes, done=done)
        self.save(None)

    def _train_batch(self, step: PlainStep, optimizer: Optimizer, batch: Batch, workers: Executor | None) -> None:
        seed = seed_of(self.plan.seed, "noise", self.at.stage, self.at.epoch, self.at.batch)
        gradients = step(batch, seed, workers)
        losses = gradients.losses.tolist()
        if not all(map(math.isfinite, losses)):
            raise self._diverged(f"the loss is {losses} in batch {self.at.batch} of epoch {self.at.epoch}")
        optimizer.step(gradients.parameters, batch, gradients.embedded)
        self.loss_weights.clamp_()
        self.at.count(losses, gradients.weights.tolist())
        self.at.batch += 1

    def _diverged(self, what: str) -> FunnelcastError:
        return FunnelcastError(f"{what}: training diverged; lower optimizer.learning_rate, or set optimizer.clip")

    def _end_epoch(self, stage: Stage, dev: Columns) -> None:
        speed = self.log.speed(self.at)
        metrics = self._measure(dev)
        value = stage.value(metrics, self.funnel)
        if self.at.best is None or value > self.at.best:
            self.at.best, self.at.best_epoch, self.at.waited = value, self.at.epoch, 0
            self.best = self._state()
        else:
            self.at.waited += 1
        self.at.log_bytes = self.log.write(self.at, self.loss_weights.task_weights(), metrics, speed)
        self.at.epoch, self.at.batch, self.at.loss_sum, self.at.weight_sum = self.at.epoch + 1, 0, [], []

    def _measure(self, dev: Columns) -> FunnelMetrics:
        log_p, log_q = score(self.model, dev, self.plan.keep_negatives)
        if not np.isfinite(log_p).all():
            raise self._diverged(f"predictions on the dev rows are not finite after epoch {self.at.epoch}")
        assert dev.labels is not None
        return measure_funnel(self.funnel, dev.labels, log_p, log_q, dev.weight)

    def _epoch_number(self) -> int:
        """Counted over all stages, so that no two epochs have one order."""
        return self.at.stage * 1_000_000 + self.at.epoch

    def _is_due(self) -> bool:
        return time.monotonic() - self._saved >= self.plan.checkpoint_seconds

    def save(self, optimizer: Optimizer | None) -> None:
        """Write a checkpoint of this moment."""
        tensors = self._state() | {f"best.{name}": t for name, t in self.best.items()}
        tensors |= {f"optimizer.{name}": t for name, t in (optimizer.state() if optimizer else {}).items()}
        save_checkpoint(self.checkpoint, tensors, self.at)
        self._saved = time.monotonic()

    def _state(self) -> dict[str, Tensor]:
        """Copies of what training changes, of the model and of the loss weights."""
        parts = {"model": self.model, "loss": self.loss_weights}
        return {f"{part}.{n}": t.clone() for part, module in parts.items() for n, t in module.state_dict().items()}

    def _load(self, state: dict[str, Tensor]) -> None:
        self.model.load_state_dict(_below("model.", state))
        self.loss_weights.load_state_dict(_below("loss.", state))

    def _restore(self, tensors: dict[str, Tensor], optimizer: Optimizer | None) -> None:
        self._load(tensors)
        self.best = _below("best.", tensors)
        state = _below("optimizer.", tensors)
        if optimizer is not None and state:
            optimizer.load(state)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
