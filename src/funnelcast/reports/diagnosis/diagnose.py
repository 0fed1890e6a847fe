"""Diagnosing a finished run, or the first seed of every model in a benchmark's results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from funnelcast.benchmarks.suite import slug
from funnelcast.boosting.stacked import network_of
from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns
from funnelcast.data.files import write_atomic
from funnelcast.data.loader import Loader
from funnelcast.data.progress import Progress, silent
from funnelcast.data.table import Table
from funnelcast.errors import FunnelcastError
from funnelcast.experiments.evaluate import require_same_ids
from funnelcast.experiments.experiment import Experiment
from funnelcast.experiments.fit import trainer_of
from funnelcast.experiments.statistics import with_statistics
from funnelcast.models.network import FunnelModel
from funnelcast.reports.diagnosis.gates_and_attention import attention, gates
from funnelcast.reports.diagnosis.gradient_conflict import conflict
from funnelcast.reports.diagnosis.scores import Scored, calibration, distribution, frequency
from funnelcast.reports.diagnosis.timing import timing
from funnelcast.reports.training_log import epochs
from funnelcast.runtime.subnormals import flush_to_zero
from funnelcast.serving.bundle import Bundle
from funnelcast.training.objective import Objective

ROWS = 20_000
"""On which the parts of a network are watched."""


def diagnose(
    run: Path | str, table: Table | Path | str, part: str = "test", by: str | None = None, item: str | None = None
) -> dict[str, Any]:
    """Learning curves, calibration (and by the groups of `by`), gates, attention, conflict of gradients, AUC by the
    frequency of the id field `item`, distributions of scores, and the time of a training step, of the run in a folder.

    Figures are of a `part` of the table; what gradients and time are of, of its training rows. A model that has no such
    parts has no such entries. Raises FunnelcastError for a folder without a finished run, TableError, ComparisonError.
    """
    run, table = Path(run), table if isinstance(table, Table) else Table.open(table)
    if not (run / "results.json").is_file():
        raise FunnelcastError(f"{run} holds no finished run; train one with: funnelcast train EXPERIMENT --out {run}")
    bundle = Bundle.load(run / "bundle")
    require_same_ids(bundle.encoder, table)
    scored = Scored.of(bundle, table, part)
    found: dict[str, Any] = {
        "epochs": epochs(run / "log.jsonl"),
        "calibration": calibration(scored, by),
        "frequency": frequency(scored, item),
        "scores": distribution(scored),
    }
    experiment = Experiment.from_dict({**bundle.experiment, "device": "auto"})
    if experiment.model.differentiable:
        found |= _of_network(network_of(bundle.model), experiment, table, scored.columns, run)
    return {name: value for name, value in found.items() if value}


@flush_to_zero()
def _of_network(
    model: FunnelModel, experiment: Experiment, table: Table, columns: Columns, run: Path
) -> dict[str, Any]:
    steps = table.schema.funnel.names
    train = with_statistics(experiment, table, model, table.part("train"), started=True)  # as in training, out of fold
    rows = Batch.of(columns.take(np.linspace(0, len(columns) - 1, min(ROWS, len(columns))).astype(np.int64)))
    trainer = trainer_of(experiment, table, model, run)
    objective = Objective(model, trainer.loss_weights, experiment.loss)
    loader = Loader.of(train, experiment.optimizer.batch_rows(len(train)), experiment.seed, experiment.keep_negatives)
    return {
        "gates": gates(model, rows, steps),
        "attention": attention(model, rows, steps),
        "conflict": conflict(objective, loader, steps) if len(steps) > 1 else [],
        "time": timing(model, trainer.loss_weights, trainer.plan, train),
    }


def diagnose_run(
    run: Path | str,
    data: Path | str | None = None,
    *,
    by: str | None = None,
    item: str | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Of a training run its diagnosis; of a benchmark those of its models, by name. Written to `RUN/diagnosis.json`.

    `data`: the prepared table; a benchmark knows its own. `by`, `item`: as of `diagnose`. Raises FunnelcastError.
    """
    run = Path(run)
    claim = run / "benchmark.json"
    if (run / "benchmarks.json").is_file():
        raise FunnelcastError(f"{run} is over several data sets; look into the models of one, as {run}/oulad")
    if not claim.is_file():
        if data is None:
            raise FunnelcastError(f"{run} does not say which table it was trained on; give it with --data TABLE")
        found = diagnose(run, data, by=by, item=item)
    else:
        said, results = json.loads(claim.read_text()), run / "results.json"
        summary = json.loads(results.read_text()) if results.is_file() else said
        pairs = list(_first_runs(run, summary["models"]))  # the claim has those that were taken out of the suite too
        found = {}
        for done, (model, folder) in enumerate(pairs, 1):
            split = run / "splits" / folder.parent.name
            own = data or (split if split.is_dir() else said.get("table"))
            if own is None:
                raise FunnelcastError(f"{run} does not say which table it was trained on; give it with --data TABLE")
            found[model] = diagnose(folder, own, by=by, item=item)
            progress("diagnose", done, len(pairs), "models", model)
    write_atomic(run / "diagnosis.json", json.dumps(found, allow_nan=False).encode())
    return found


def is_due(run: Path, *, anew: bool) -> bool:
    """Whether a diagnosis is wanted: `anew`, or of a benchmark on a table that is there whose results are newer."""
    claim, diagnosis, results = run / "benchmark.json", run / "diagnosis.json", run / "results.json"
    if anew or not (claim.is_file() and results.is_file()):
        return anew
    table = json.loads(claim.read_text()).get("table")
    is_stale = not diagnosis.is_file() or diagnosis.stat().st_mtime < results.stat().st_mtime
    return is_stale and table is not None and (Path(table) / "manifest.json").is_file()


def _first_runs(run: Path, models: list[str]) -> Iterator[tuple[str, Path]]:
    """The run of the first seed of every model that has a finished one."""
    for model in models:
        finished = sorted((run / "cells" / slug(model)).glob("*/cell.json"), key=lambda path: int(path.parent.name))
        if finished:
            yield model, finished[0].parent / "run"
