"""A run's log, epoch by epoch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def epochs(log: Path) -> list[dict[str, Any]]:
    """Training losses, loss weights and dev figures; none of boosters, which have no epochs."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [_told(line) for line in lines if "epoch" in line]


def _told(line: dict[str, Any]) -> dict[str, Any]:
    kept = ("stage", "epoch", "loss", "task_weights", "is_best", "seconds", "rows_per_s")
    dev = line["dev"]
    return {
        **{name: line[name] for name in kept},
        "dev_auc": {output: m["auc"]["estimate"] for output, m in dev.items()},
        "dev_log_loss": {output: m["log_loss"] for output, m in dev.items()},
        **({"meta": line["meta"]} if "meta" in line else {}),
    }
