"""What the few-shot protocol tells: means over tasks, and paired differences of methods with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from funnelcast.evaluation.auc import Interval
from funnelcast.evaluation.paired import mean_interval
from funnelcast.evaluation.rows import Floats
from funnelcast.fewshot.protocol import Figures, Measured


def gains(measured: Measured, method: str, over: str) -> list[Interval]:
    """By size, how much lower the log-loss of `method` is than that of `over` on the same query rows; nats per row."""
    own, other = (measured.figures[name].log_loss for name in (method, over))
    return [mean_interval(other[s] - own[s]) for s in range(len(measured.sizes))]


def report(measured: Measured) -> dict[str, Any]:
    """As JSON has it: by method and size the means over tasks; the gain of each method over each other one; and every
    task's figures.

    A task's calibration error is |observed / predicted - 1|, a part of which is the chance of its query's labels.
    """
    figures = measured.figures
    pairs = {name: {over: _gains(measured, name, over) for over in figures if over != name} for name in figures}
    return {
        "output": measured.output,
        "sizes": list(measured.sizes),
        "tasks": list(measured.tasks),
        "methods": {name: _means(own) for name, own in figures.items()},
        "gain_over": pairs,
        "by_task": {name: {f: _plain(getattr(own, f)) for f in Figures._fields} for name, own in figures.items()},
    }


def measured_of(report: Mapping[str, Any]) -> Measured:
    """What a report is of, to its 7 digits."""
    figures = {
        name: Figures(*(np.array(own[f], np.float64) for f in Figures._fields))
        for name, own in report["by_task"].items()
    }
    return Measured(report["output"], tuple(report["sizes"]), tuple(report["tasks"]), figures)


def _gains(measured: Measured, method: str, over: str) -> list[dict[str, Any]]:
    return [_as_dict(gain) for gain in gains(measured, method, over)]


def _means(own: Figures) -> dict[str, Any]:
    """By figure, for every size."""
    values = {
        "log_loss": own.log_loss,
        "auc": own.auc,
        "calibration_error": np.abs(own.observed_over_predicted - 1),
    }
    return {name: [_as_dict(mean_interval(of_size)) for of_size in of_sizes] for name, of_sizes in values.items()}


def _as_dict(interval: Interval) -> dict[str, Any]:
    values = interval._asdict()
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def _plain(values: Floats) -> list[list[float | None]]:
    """(sizes, tasks), to 7 digits."""
    return [[float(f"{v:.7g}") if math.isfinite(v) else None for v in row] for row in values.tolist()]
