"""What a benchmark will take, from rates that are measured here: of finished runs, or of a few batches of each model.

How many epochs a network wants shows only in training: until a run of it is finished, `patience` and three more are
assumed of each stage. Boosters are fitted to some of the rows, and taken to be linear in them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from funnelcast.benchmarks.child_process import child_command
from funnelcast.benchmarks.model_run import peak_memory
from funnelcast.benchmarks.run_pool import ModelRun, environment
from funnelcast.data.columns import Columns
from funnelcast.data.table import Table
from funnelcast.errors import FunnelcastError
from funnelcast.experiments.experiment import Experiment
from funnelcast.experiments.fit import build_model, fit_boosters, trainer_of
from funnelcast.experiments.statistics import with_statistics
from funnelcast.training.stages import Stage

MORE_EPOCHS = 3
BATCHES, BOOSTED_ROWS, DEV_ROWS = 6, 40_000, 8_192
COPIES = 3
"""Of the parameters that training holds: their own, and two moments."""


@dataclass(frozen=True)
class Estimate:
    """Of one run."""

    seconds: float
    bytes: int
    is_measured: bool = False
    """Of a finished run of the model."""


def estimate(runs: Sequence[ModelRun], table: Path, workers: int) -> dict[str, Estimate]:
    """Of a run, by model; a model that some rows cannot be trained on has none."""
    costs, settings = dict[str, list[dict[str, Any]]](), dict[str, Experiment]()
    for run in runs:
        if run.is_finished:
            costs.setdefault(run.model, []).append(run.read()["cost"])
        else:
            settings.setdefault(run.model, run.settings(workers))
    found = {name: _measured(own) for name, own in costs.items()}
    unknown = {name: experiment.model_dump(mode="json") for name, experiment in settings.items() if name not in found}
    if unknown:
        command = child_command("funnelcast.benchmarks.estimate", table, time.time())
        asking = json.dumps(unknown).encode()
        done = subprocess.run(command, input=asking, stdout=subprocess.PIPE, env=environment(), check=False)
        for line in done.stdout.splitlines():
            found |= {name: Estimate(**each) for name, each in json.loads(line).items()}
    return found


def _measured(costs: Sequence[dict[str, Any]]) -> Estimate:
    """Of those of the finished runs of a model."""
    return Estimate(mean(c["seconds"] for c in costs), max(c["peak_bytes"] for c in costs), is_measured=True)


def probe(experiment: Experiment, table: Table, folder: Path) -> Estimate:
    """From training on some rows. Raises FunnelcastError where that cannot be."""
    train, dev = table.part("train"), _first(table.part("dev"), DEV_ROWS)
    if not experiment.model.differentiable:
        return Estimate(_of_trees(experiment, table, folder), peak_memory())
    rows, seconds, size = _first(train, BATCHES * experiment.optimizer.batch_rows(len(train))), 0.0, 0
    for number, stage in enumerate(experiment.stages):
        changes = {"epochs": 2, "patience": 2, "metric": "log_loss"}  # the first epoch compiles
        once = experiment.model_copy(update={"stages": (stage.model_copy(update=changes),)})
        model, own = build_model(once, table.encoder), folder / str(number)
        read = with_statistics(once, table, model, rows)
        trainer_of(once, table, model, own, rows=len(rows)).run(read, dev)
        line = json.loads((own / "log.jsonl").read_text().splitlines()[-1])
        seconds, size = seconds + _epochs(stage) * len(train) / line["rows_per_s"], model.size
    if experiment.stacking is not None:
        trees = experiment.model_copy(update={"model": experiment.stacking})
        seconds += _of_trees(trees, table, folder / "trees")
    return Estimate(seconds, peak_memory() + COPIES * 4 * size)


def _of_trees(experiment: Experiment, table: Table, folder: Path) -> float:
    """Seconds that all rows will take."""
    train, dev = table.part("train"), _first(table.part("dev"), DEV_ROWS)
    rows = _first(train, BOOSTED_ROWS)
    fit_boosters(experiment, table.encoder, rows, dev, folder)
    seconds = sum(json.loads(text)["seconds"] for text in (folder / "log.jsonl").read_text().splitlines())
    return float(seconds * len(train) / len(rows))


def _epochs(stage: Stage) -> int:
    return min(stage.epochs, stage.patience + MORE_EPOCHS)


def _first(columns: Columns, rows: int) -> Columns:
    return columns.take(np.arange(min(rows, len(columns))))


def main(arguments: list[str]) -> int:
    """Of experiments by name, JSON on stdin, on the table of the first argument; a line of JSON for each on stdout,
    none of those that fail. The second is when this process was started, which is what each run's start takes."""
    table, start = Table.open(arguments[0]), time.time() - float(arguments[1])
    for name, experiment in json.load(sys.stdin).items():
        try:
            with TemporaryDirectory() as folder:
                own = probe(Experiment.from_dict(experiment), table, Path(folder))
        except FunnelcastError:
            continue
        except Exception:  # a fault of ours, which costs no more than this estimate
            traceback.print_exc()
            continue
        sys.stdout.write(json.dumps({name: asdict(replace(own, seconds=start + own.seconds))}) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
