"""Stages: what is trained, for how long, and when to stop. Two-stage training is two of them."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from funnelcast.errors import Fault, did_you_mean
from funnelcast.evaluation.funnel import FunnelMetrics
from funnelcast.models.network import GROUPS, TOP, Group
from funnelcast.schema.config import Config
from funnelcast.schema.funnel import Funnel


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
    `auc_conversion_given_click`, …), higher is better; or `log_loss`, the sum over steps, lower is better."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Instead of the optimizer's."""

    def check(self, funnel: Funnel, where: str) -> list[Fault]:
        """Faults that show only beside the funnel."""
        known = ["auc_mean", "log_loss", *(f"auc_{output.name}" for output in funnel.outputs)]
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
        """The stage's metric, turned so that higher is better; undefined AUCs are left out of the mean."""
        if self.metric == "log_loss":
            return -sum(metrics.outputs[name].log_loss for name in funnel.names)
        if self.metric != "auc_mean":
            return metrics.outputs[self.metric.removeprefix("auc_")].auc.estimate
        aucs = [metrics.outputs[name].auc.estimate for name in funnel.names]
        values = [auc for auc in aucs if not math.isnan(auc)]
        return sum(values) / len(values) if values else math.nan
