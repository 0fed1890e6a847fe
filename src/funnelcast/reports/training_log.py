"""The log of a training run: its epochs as a diagnosis has them, or its boosters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from funnelcast.errors import FunnelcastError


class Log(NamedTuple):
    """Either is empty where the model has none."""

    epochs: list[dict[str, Any]]
    boosters: list[dict[str, Any]]


def read_log(path: Path) -> Log:
    """A run's `log.jsonl`; nothing where it is gone. Raises FunnelcastError where it is damaged."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    try:
        found = [json.loads(line) for line in lines]
        return Log(epochs(path) if lines else [], [line for line in found if "step" in line])
    except (ValueError, KeyError, TypeError) as error:
        raise FunnelcastError(
            f"{path} is damaged ({type(error).__name__}: {error}); delete it to report without its curves, or the "
            "run's folder to train again"
        ) from None


def epochs(log: Path) -> list[dict[str, Any]]:
    """Training losses, loss weights and dev figures; none of boosters, which have no epochs."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [_of_epoch(line) for line in lines if "epoch" in line]


def _of_epoch(line: dict[str, Any]) -> dict[str, Any]:
    kept = ("stage", "epoch", "loss", "task_weights", "is_best", "seconds", "rows_per_s")
    dev = line["dev"]
    return {
        **{name: line[name] for name in kept},
        "dev_auc": {output: m["auc"]["estimate"] for output, m in dev.items()},
        "dev_log_loss": {output: m["log_loss"] for output, m in dev.items()},
        **({"meta": line["meta"]} if "meta" in line else {}),
    }
