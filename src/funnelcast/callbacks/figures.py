"""The figures of a run by name, the same in every tool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from funnelcast.training.callback import EpochEnd, StepEnd

FIGURES = ("auc", "log_loss", "normalised_entropy", "calibration_error", "observed_over_predicted")
"""Of an output's metrics, those that a tool shows."""


def figures_of_part(part: str, outputs: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """`dev_auc/click` and the like of a part's metrics as JSON has them; without those that are undefined."""
    found = {}
    for key in FIGURES:
        for output, metrics in outputs.items():
            value = metrics["auc"]["estimate"] if key == "auc" else metrics[key]
            if value is not None:
                found[f"{part}_{key}/{output}"] = float(value)
    return found


def figures_of_step(event: StepEnd) -> dict[str, float]:
    """Of a step: losses, and the speed of the epoch up to here."""
    return _by_step("step_loss", event.losses) | {"step_rows_per_s": event.rows_per_s}


def figures_of_epoch(event: EpochEnd) -> dict[str, float]:
    """Of an epoch: losses, task weights, dev metrics, the stage's metric, learning rate and speed."""
    own = _by_step("loss", event.losses) | _by_step("task_weight", event.task_weights)
    speed = {"learning_rate": event.learning_rate, "rows_per_s": event.rows_per_s, "seconds": event.seconds}
    return own | figures_of_part("dev", event.dev) | {"score": event.score, "epoch": event.epoch} | speed


def _by_step(name: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{name}/{step}": value for step, value in values.items()}
