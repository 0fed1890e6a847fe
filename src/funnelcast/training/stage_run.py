"""What a stage needs to run: its batches, the gradient of one, and what moves parameters by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from funnelcast.data.columns import Columns
from funnelcast.data.episodes import Halves, Keyed, Loading
from funnelcast.data.loader import Loader
from funnelcast.errors import FunnelcastError
from funnelcast.models.network import FunnelModel
from funnelcast.ops import check_precision
from funnelcast.runtime.threads import Workers
from funnelcast.training.averaging import Average
from funnelcast.training.compiling import CompiledStep
from funnelcast.training.gradients import Gradients
from funnelcast.training.losses import LossConfig, LossWeights
from funnelcast.training.meta import MetaStep
from funnelcast.training.objective import Objective
from funnelcast.training.optimizers import Optimizer, OptimizerConfig
from funnelcast.training.stages import Meta, Stage
from funnelcast.training.step import PlainStep, Trained

KeysOf = Callable[[str], tuple[NDArray[Any], NDArray[np.bool_]]]
"""By the name of a key, that of each training row and whether it is known."""


@dataclass(frozen=True)
class Plan:
    """What a run trains and how; a resumed run must have the same."""

    loss: LossConfig
    optimizer: OptimizerConfig
    stages: tuple[Stage, ...]
    seed: int
    keep_negatives: float = 1.0
    unknown_ids: float = 0.0
    workers: int = 1
    checkpoint_seconds: float = 60.0


class Step(Protocol):
    """The gradient of a batch."""

    def __call__(self, batch: Any, seed: int, workers: Workers | None, *, watch: bool = False) -> Gradients: ...


@dataclass(frozen=True)
class StageRun:
    """A stage that can run."""

    stage: Stage
    loader: Loading
    step: Step
    optimizer: Optimizer
    rates: nn.ParameterList
    """What the inner step's α is multiplied by, where that is learned."""
    average: Average | None
    """Of what is trained of the model, where that is what is measured and kept."""


def stage_run_of(
    stage: Stage, model: FunnelModel, loss_weights: LossWeights, plan: Plan, train: Columns, keys: KeysOf | None
) -> StageRun:
    """`keys`: those of the training rows, where tasks are drawn by one. Raises DataError where these make no tasks."""
    objective, meta = Objective(model, loss_weights, plan.loss), stage.meta
    adapted = _adapted(objective, stage, meta) if meta is not None else {}
    is_learned = meta is not None and meta.learned
    rates = nn.ParameterList([torch.ones_like(p) for p in adapted.values()] if is_learned else [])
    optimizer = _optimizer(objective, stage, plan, rates)
    average = Average(optimizer.model_parameters, stage.average) if stage.average is not None else None
    by = {id(p) for p in (*optimizer.model_parameters, *optimizer.loss_weights.values())}
    for parameter in objective.parameters():
        parameter.requires_grad_(id(parameter) in by)  # kernels make no other gradients
    trained = Trained([*optimizer.dense.values(), *optimizer.loss_weights.values()], bool(optimizer.tables))
    size, precision = plan.optimizer.micro_batch, plan.optimizer.precision
    check_precision(precision, model.device)
    rows = plan.optimizer.batch_rows(len(train))
    loader = Loader.of(train, rows, plan.seed, plan.keep_negatives, unknown_ids=plan.unknown_ids)
    if meta is None:
        at_once = None if plan.optimizer.at_once == "auto" else plan.optimizer.at_once
        workers = plan.workers if model.device.type == "cpu" else 1
        plain = PlainStep(objective, trained, size, at_once, workers, precision, optimizer.reads)
        ordinary = CompiledStep.of(plain) if plan.optimizer.compile else plain
        return StageRun(stage, loader, ordinary, optimizer, rates, average)
    step = MetaStep.of(objective, trained, meta, adapted, list(rates), size, plan.workers)
    tasks = Halves(loader, meta.tasks) if meta.by is None else _keyed(meta, meta.by, plan, train, keys)
    return StageRun(stage, tasks, step, optimizer, rates, average)


def check_stages(model: FunnelModel, stages: Sequence[Stage]) -> None:
    """Raises FunnelcastError for a stage that would train or adapt nothing."""
    for stage in stages:
        wanted = {"trains": stage.groups}
        if stage.meta is not None:
            wanted["adapts"] = tuple(group for group in stage.meta.groups if group in stage.groups)
        for verb, groups in wanted.items():
            if not model.groups(groups):
                raise FunnelcastError(
                    f"stage {stage.name!r} {verb} {', '.join(groups) or 'nothing that it trains'}, and the model has "
                    f"none of these; name groups that it has, or {'train' if verb == 'trains' else 'inner'} = 'all'"
                )


def _adapted(objective: Objective, stage: Stage, meta: Meta) -> dict[str, Tensor]:
    """What the inner step moves, by name in the objective."""
    groups = [group for group in meta.groups if group in stage.groups and group != "embedding"]
    own = {f"model.{name}": p for name, p in objective.model.groups(groups).items()}
    weights = objective.loss_weights.named_parameters(prefix="loss_weights") if meta.adapt_loss_weights else ()
    return {**own, **dict(weights)}


def _optimizer(objective: Objective, stage: Stage, plan: Plan, rates: nn.ParameterList) -> Optimizer:
    model = objective.model
    dense = model.groups([group for group in stage.groups if group != "embedding"])
    tables = model.embedding.all_tables() if "embedding" in stage.groups else []
    weights = dict(objective.loss_weights.named_parameters(prefix="loss"))
    rate = plan.loss.learning_rate
    return Optimizer(plan.optimizer, dense, weights, rate, tables, stage.learning_rate, dict(rates.named_parameters()))


def _keyed(meta: Meta, by: str, plan: Plan, train: Columns, keys: KeysOf | None) -> Keyed:
    assert keys is not None, "whoever trains by keys must give them"
    return Keyed.of(
        train,
        *keys(by),
        plan.optimizer.batch_rows(len(train)),
        meta.tasks,
        plan.seed,
        keep_negatives=plan.keep_negatives,
        support_share=meta.support_share,
        min_rows=meta.min_rows,
        sampling=meta.sampling,
        stratified=meta.stratified,
    )
