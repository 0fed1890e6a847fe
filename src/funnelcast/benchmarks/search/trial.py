"""One trial: an experiment trained, and stopped early where others were better after as many epochs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from funnelcast.data.table import Table
from funnelcast.experiments.experiment import Experiment
from funnelcast.experiments.run import train
from funnelcast.training.stages import value_of


class Pruned(Exception):  # noqa: N818  not an error
    """A trial that is not worth going on with."""


def run_trial(
    experiment: Experiment, table: Table, folder: Path, metric: str, is_hopeless: Callable[[int, float], bool]
) -> float:
    """The dev metric, higher is better, of the trained model; the test part stays closed. `is_hopeless` is asked after
    each epoch of a network, with its number and value.

    Raises Pruned, and FunnelcastError where it cannot be trained.
    """
    told = 0

    def progress(stage: str, done: int, total: int, unit: str, note: str = "") -> None:
        nonlocal told
        if done >= total > 0 and experiment.model.differentiable:
            lines = _lines(folder / "log.jsonl")
            for number, line in enumerate(lines[told:], told):
                if "dev" in line and is_hopeless(number, value_of(line["dev"], metric, table.schema.funnel)):
                    raise Pruned
            told = len(lines)

    try:
        run = train(experiment, table, folder, parts=("dev",), baselines=False, progress=progress)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return value_of(run.results["dev"], metric, table.schema.funnel)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
