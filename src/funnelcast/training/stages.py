"""Stages: what is trained, for how long, and when to stop. Two-stage training is two of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from funnelcast.errors import Fault, did_you_mean
from funnelcast.evaluation.funnel import FunnelMetrics
from funnelcast.models.network import GROUPS, TOP, Group
from funnelcast.schema.config import Config
from funnelcast.schema.funnel import Funnel
from funnelcast.training.algorithms import Inner


class Meta(Inner):
    """Training by Algorithm 1: a step draws tasks, adapts to each on its support rows, and learns from how well that
    does on its query rows."""

    tasks: int = Field(default=2, ge=1, le=65536)
    """Tasks of a step; they share its `optimizer.batch_size` rows."""
    by: str | None = None
    """What the rows of a task have in common: a feature or a kept column, such as a campaign, a user or a scenario. By
    default a task is random rows, halved into support and query."""
    sampling: Literal["proportional", "uniform"] = "proportional"
    """With `by`: whether a key is drawn by its rows, or all alike."""
    min_rows: int = Field(default=2, ge=2)
    """With `by`: a key with fewer training rows is no task."""
    support_share: float = Field(default=0.5, gt=0, lt=1)
    """With `by`: how much of a task's rows is its support."""
    stratified: bool = True
    """With `by`: support and query get their share of the rows that reached each step."""

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        keyed = ("sampling", "min_rows", "support_share", "stratified")
        idle = [name for name in keyed if getattr(self, name) != type(self).model_fields[name].default]
        if self.by is None and idle:
            raise ValueError(f"{', '.join(idle)} need `by`, and tasks are random rows; name a key, or leave them out")
        return self


class Stage(Config):
    """One stretch of training with a fresh optimizer, from the best state of the stage before it."""

    name: str = Field(default="general", pattern=r"^[\w.-]+$")
    """Stands in the log."""
    train: Literal["all", "top"] | Annotated[tuple[Group, ...], Field(min_length=1)] = "all"
    """`all` parameters; the `top`: gates, attention and towers; or named groups: embedding, pooling, experts, gates,
    attention, towers."""
    epochs: int = Field(default=10, ge=1, le=1_000_000)
    """At most this many passes over the training rows."""
    patience: int = Field(default=1, ge=1, le=1_000_000)
    """Stop after this many epochs in a row without a better dev metric."""
    metric: str = "auc_mean"
    """Measured on the dev rows: `auc_mean` over the steps, `auc_OUTPUT` (`auc_click`,
    `auc_conversion_given_click`, …), higher is better; `log_loss`, the sum over steps, lower is better; or
    `normalised_entropy`, the mean over all outputs, those given the step before too, of the log-loss over that of the
    constant rate: no output is given up for another unseen."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Instead of the optimizer's."""
    average: float | None = Field(default=None, gt=0, lt=1)
    """Measure and keep as the best not the parameters themselves but their moving average, which is steadier from epoch
    to epoch; 0.98 is over about the last 50 steps."""
    meta: Meta | None = None
    """Train by meta-learning; plainly if not given."""

    def check(self, funnel: Funnel, where: str) -> list[Fault]:
        """Faults that show only beside the funnel."""
        known = ["auc_mean", "log_loss", "normalised_entropy", *(f"auc_{output.name}" for output in funnel.outputs)]
        if self.metric in known:
            return []
        problem = f"{self.metric!r} is no metric of this funnel"
        return [Fault(f"{where}.metric", problem, did_you_mean(self.metric, known))]

    @property
    def groups(self) -> tuple[Group, ...]:
        if self.train == "all":
            return GROUPS
        return TOP if self.train == "top" else self.train

    def value(self, metrics: FunnelMetrics, funnel: Funnel) -> float:
        """The stage's metric, as `value_of`."""
        return value_of({name: own.as_dict() for name, own in metrics.outputs.items()}, self.metric, funnel)


def value_of(outputs: Mapping[str, Mapping[str, Any]], metric: str, funnel: Funnel) -> float:
    """Of metrics by output, as JSON has them, turned so that higher is better; undefined AUCs are left out of the mean.
    NaN where it is undefined."""
    if metric == "log_loss":
        losses = [outputs[name]["log_loss"] for name in funnel.names]
        return math.nan if None in losses else -sum(losses)
    if metric == "normalised_entropy":
        shares = [own["normalised_entropy"] for own in outputs.values() if own["normalised_entropy"] is not None]
        return -sum(shares) / len(shares) if shares else math.nan
    names = funnel.names if metric == "auc_mean" else (metric.removeprefix("auc_"),)
    aucs = [outputs[name]["auc"]["estimate"] for name in names]
    known = [auc for auc in aucs if auc is not None]
    return sum(known) / len(known) if known else math.nan
