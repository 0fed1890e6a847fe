"""The log of a training run: its epochs as a diagnosis has them, or its boosters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from funnelcast.errors import FunnelcastError
from funnelcast.reports.diagnosis.epochs import epochs


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
