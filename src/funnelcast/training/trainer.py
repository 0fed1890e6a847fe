"""The training loop: stages of epochs of steps, early stopping on the dev rows, checkpoints that resume exactly."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from funnelcast.data.columns import Columns
from funnelcast.data.episodes import Loading
from funnelcast.data.loader import seed_of
from funnelcast.data.progress import Progress as OnProgress
from funnelcast.data.progress import silent
from funnelcast.errors import DataError, FunnelcastError
from funnelcast.evaluation.funnel import FunnelMetrics, measure_funnel
from funnelcast.evaluation.health import Finding, find_collapsed, step_rates
from funnelcast.evaluation.score import score
from funnelcast.models.network import FunnelModel
from funnelcast.ops import keep_freed_memory
from funnelcast.runtime.threads import Workers, prefetch, worker_pool
from funnelcast.schema.funnel import Funnel
from funnelcast.training.callback import Callbacks, EpochEnd, StageBegin, StepEnd
from funnelcast.training.checkpoint import load_checkpoint, save_checkpoint
from funnelcast.training.interrupt import Interruption
from funnelcast.training.log import EpochLog
from funnelcast.training.losses import LossWeights
from funnelcast.training.progress import Progress
from funnelcast.training.selection import effective_shares
from funnelcast.training.stage_run import KeysOf, Plan, StageRun, check_stages, stage_run_of
from funnelcast.training.stages import Stage

WATCHED = 16
"""Of so many meta steps one is asked what adapting did."""
SAMPLED = 50_000
"""Training rows, at least, on which weights are measured after an epoch; all where there are fewer."""


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
        keys: KeysOf | None = None,
        callbacks: Callbacks | None = None,
    ) -> None:
        """`keys`: of the training rows, where a stage draws its tasks by one."""
        self.keys, self.rates, self.callbacks = keys, nn.ParameterList(), callbacks or Callbacks()
        self.model, self.loss_weights, self.funnel, self.plan = model, loss_weights, funnel, plan
        self.log, self.checkpoint = EpochLog(folder / "log.jsonl", funnel.names, progress), folder / "checkpoint"
        self.progress = Progress()
        self.constant: list[float] = []  # rates (T) of the training rows
        self.best: dict[str, Tensor] = {}
        self._saved = time.monotonic()

    def run(self, train: Columns, dev: Columns, *, trained: bool = False) -> FunnelModel:
        """Train to the end, from the last checkpoint if there is one; returns the model in its best state.

        That may be the state a stage began with, but for the first stage of a model that was not `trained` before.

        Raises FunnelcastError for a stage without parameters and when training diverges, DataError when the metric is
        undefined on the dev rows, KeyboardInterrupt after Ctrl-C with a checkpoint written.
        """
        plan = self.plan
        check_stages(self.model, plan.stages)
        assert train.labels is not None
        self.constant = step_rates(train.labels, train.weight)
        keep_freed_memory()
        resumed = load_checkpoint(self.checkpoint)
        if resumed is not None:
            self.progress = resumed[1]
        self.log.cut(self.progress.log_bytes)
        on_cpu = self.model.device.type == "cpu"
        with worker_pool(plan.workers if on_cpu else 1) as workers, Interruption() as interruption:
            while not self.progress.done:
                stage = plan.stages[self.progress.stage]
                stage_run = stage_run_of(stage, self.model, self.loss_weights, plan, train, self.keys)
                if stage.meta is not None:  # a plain stage leaves those of the last one as they are
                    self.rates = stage_run.rates
                if resumed is not None:
                    self._restore(resumed[0], stage_run)
                    resumed = None
                if not self.progress.begun:
                    self._begin_stage(stage, dev, trained or self.progress.stage > 0)
                self._run_stage(stage_run, train, dev, workers, interruption)
        if resumed is not None:
            self._restore(resumed[0], None)
        self._load(self.best)
        return self.model

    def _begin_stage(self, stage: Stage, dev: Columns, trained: bool) -> None:
        """See that the metric is defined before time is spent, and take a trained model for the best so far."""
        value = stage.value(self._measure(dev)[0], self.funnel)
        if math.isnan(value):
            raise DataError(
                f"{stage.metric} is undefined on the {len(dev)} dev rows: they lack reached rows or others, of some "
                "weight; see that the labels are right, or give dev more rows"
            )
        if trained:
            self.progress.best = value
            self._keep_best()
        self.progress.begun = True

    def _run_stage(
        self, stage_run: StageRun, train: Columns, dev: Columns, workers: Workers | None, interruption: Interruption
    ) -> None:
        stage, loader, stopped = stage_run.stage, stage_run.loader, False
        self.callbacks.call("on_stage_begin", self._stage_begin(stage, loader))
        while not (self.progress.stopped or self._is_over(stage)):
            self.log.begin(stage, loader, self.progress)
            reading = _with_one_thread(loader.epoch(self._epoch_number(), self.progress.batch))
            with prefetch(reading) if self.plan.workers > 1 else nullcontext(reading) as batches:
                for batch in batches:
                    losses = self._train_batch(stage_run, batch.to(self.model.device), workers)
                    self.log.report(self.progress, self.loss_weights.task_weights())
                    if self.callbacks.follows_steps:
                        stopped = self.callbacks.call("on_step", self._step_end(stage, losses))
                    if interruption.wanted or self._is_due():
                        self.progress.seconds = self.log.seconds
                        self.save(stage_run)
                    if interruption.wanted:
                        raise KeyboardInterrupt
                    if stopped:
                        break
            event = self._end_epoch(stage_run, train, dev)
            self.progress.stopped = self.callbacks.call("on_epoch_end", event) or stopped
            self.save(stage_run)
            if interruption.wanted:
                raise KeyboardInterrupt
        self._load(self.best)
        before = self.progress
        done = before.stopped or before.stage + 1 == len(self.plan.stages)
        self.progress = Progress(stage=before.stage + 1, log_bytes=before.log_bytes, steps=before.steps, done=done)
        self.save(None)

    def _is_over(self, stage: Stage) -> bool:
        return self.progress.epoch >= stage.epochs or self.progress.waited >= stage.patience

    def _train_batch(self, stage_run: StageRun, batch: Any, workers: Workers | None) -> list[float]:
        """The mean loss per step."""
        seed = seed_of(self.plan.seed, "noise", self.progress.stage, self.progress.epoch, self.progress.batch)
        found = stage_run.step(batch, seed, workers, watch=self.progress.batch % WATCHED == 0)
        losses = found.losses.tolist()
        if not all(map(math.isfinite, losses)):
            raise self._diverged(f"the loss is {losses} in batch {self.progress.batch} of epoch {self.progress.epoch}")
        stage_run.optimizer.step(found, workers)
        self.loss_weights.clamp_()
        if stage_run.average is not None:
            stage_run.average.update()
        self.progress.count(losses, found.weights.tolist())
        self.progress.update(found.metrics)
        self.progress.batch += 1
        self.progress.steps += 1
        return losses

    def _diverged(self, what: str) -> FunnelcastError:
        return FunnelcastError(f"{what}: training diverged; lower optimizer.learning_rate, or set optimizer.clip")

    def _end_epoch(self, stage_run: StageRun, train: Columns, dev: Columns) -> EpochEnd:
        speed = self.log.speed(self.progress)
        stage_run.optimizer.settle()
        with stage_run.average.in_place() if stage_run.average is not None else nullcontext():
            metrics, findings = self._measure(dev)
            effective = self._effective_sample(train)
            value = stage_run.stage.value(metrics, self.funnel)
            if self.progress.best is None or value > self.progress.best:
                self.progress.best, self.progress.best_epoch, self.progress.waited = value, self.progress.epoch, 0
                self._keep_best()
            else:
                self.progress.waited += 1
        weights = self.loss_weights.task_weights()
        self.progress.log_bytes = self.log.write(self.progress, weights, metrics, speed, findings, effective)
        event = self._epoch_end(stage_run.stage, self.log.line, value)
        self.progress.epoch, self.progress.batch, self.progress.loss_sum, self.progress.weight_sum = (
            self.progress.epoch + 1,
            0,
            [],
            [],
        )
        self.progress.meta_sums, self.progress.seconds = {}, 0.0
        return event

    def _learning_rate(self, stage: Stage) -> float:
        return stage.learning_rate or self.plan.optimizer.learning_rate

    def _stage_begin(self, stage: Stage, loader: Loading) -> StageBegin:
        how, at = (stage.name, stage.epochs, stage.patience, stage.metric, self._learning_rate(stage)), self.progress
        return StageBegin(*how, loader.num_rows, len(loader), at.epoch, at.steps)

    def _step_end(self, stage: Stage, losses: list[float]) -> StepEnd:
        at, by_step = self.progress, dict(zip(self.funnel.names, losses, strict=True))
        rows, seconds = self.log.rows(at.batch), self.log.seconds
        number, rate = (stage.name, at.epoch, at.batch - 1, at.steps - 1), self._learning_rate(stage)
        return StepEnd(*number, by_step, rate, rows, seconds, rows / seconds)

    def _epoch_end(self, stage: Stage, line: dict[str, Any], score: float) -> EpochEnd:
        return EpochEnd(
            stage=stage.name,
            epoch=self.progress.epoch,
            step=self.progress.steps - 1,
            losses=line["loss"],
            score=score,
            learning_rate=self._learning_rate(stage),
            warnings=tuple(line.get("warnings", ())),
            **{name: line[name] for name in ("task_weights", "dev", "is_best", "rows", "seconds", "rows_per_s")},
        )

    def _measure(self, dev: Columns) -> tuple[FunnelMetrics, list[Finding]]:
        log_p, log_q = score(self.model, dev, self.plan.keep_negatives, workers=self.plan.workers)
        if not np.isfinite(log_p).all():
            raise self._diverged(f"predictions on the dev rows are not finite after epoch {self.progress.epoch}")
        assert dev.labels is not None
        rows = self.funnel, dev.labels, log_p, log_q, dev.weight
        metrics = measure_funnel(*rows)
        return metrics, find_collapsed(*rows, self.constant, metrics)

    def _effective_sample(self, train: Columns) -> list[float | None] | None:
        """Of the weights that a correction gives training rows, (T,); of some rows from all over the log."""
        loss = self.plan.loss
        if loss.correction == "none":
            return None
        rows = train.take(np.arange(0, len(train), max(1, len(train) // SAMPLED)))
        log_p, _ = score(self.model, rows, workers=self.plan.workers)  # as they are sampled, which the weights see
        assert rows.labels is not None
        return effective_shares(log_p, rows.labels, rows.weight, self.model.parents, loss.largest_weight)

    def _epoch_number(self) -> int:
        """Counted over all stages, so that no two epochs have one order."""
        return self.progress.stage * 1_000_000 + self.progress.epoch

    def _is_due(self) -> bool:
        return time.monotonic() - self._saved >= self.plan.checkpoint_seconds

    def save(self, stage_run: StageRun | None) -> None:
        """Write a checkpoint of this moment."""
        tensors = self._tensors() | {f"best.{name}": t for name, t in self.best.items()}
        if stage_run is not None:
            tensors |= {f"optimizer.{name}": t for name, t in stage_run.optimizer.state().items()}
            tensors |= {f"average.{n}": t for n, t in (stage_run.average.state() if stage_run.average else {}).items()}
        save_checkpoint(self.checkpoint, tensors, self.progress)
        self._saved = time.monotonic()

    def _keep_best(self) -> None:
        """In place where it can be, as there may be no room for a third copy of a large table."""
        now = self._tensors()
        if self.best.keys() == now.keys():
            for name, tensor in now.items():
                self.best[name].copy_(tensor)
        else:
            self.best = {name: tensor.clone() for name, tensor in now.items()}

    def _tensors(self) -> dict[str, Tensor]:
        """What training changes: of the model, of the loss weights, and of an inner loop's rates."""
        parts: dict[str, nn.Module] = {"model": self.model, "loss": self.loss_weights, "rates": self.rates}
        return {f"{part}.{n}": t.detach() for part, module in parts.items() for n, t in module.state_dict().items()}

    def _load(self, state: dict[str, Tensor]) -> None:
        self.model.load_state_dict(_below("model.", state))
        self.loss_weights.load_state_dict(_below("loss.", state))
        rates = _below("rates.", state)
        if len(self.rates) != len(rates):  # resumed in a plain stage
            self.rates = nn.ParameterList([rates[str(i)] for i in range(len(rates))])
        self.rates.load_state_dict(rates)

    def _restore(self, tensors: dict[str, Tensor], stage_run: StageRun | None) -> None:
        self._load(tensors)
        self.best = _below("best.", tensors)
        parts = [stage_run.optimizer, stage_run.average] if stage_run is not None else []
        for part, prefix in zip(parts, ("optimizer.", "average."), strict=False):
            if part is not None and (state := _below(prefix, tensors)):
                part.load(state)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _with_one_thread(items: Generator[Any]) -> Generator[Any]:
    """The same, made with one math thread in whatever thread makes them."""
    torch.set_num_threads(1)
    yield from items
