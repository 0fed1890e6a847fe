"""Diagnosing a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from funnelcast.boosting.stacked import network_of
from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns
from funnelcast.data.loader import Loader
from funnelcast.data.table import Table
from funnelcast.errors import FunnelcastError
from funnelcast.experiments.evaluate import require_same_ids
from funnelcast.experiments.experiment import Experiment
from funnelcast.experiments.fit import trainer_of
from funnelcast.experiments.statistics import with_statistics
from funnelcast.models.network import FunnelModel
from funnelcast.reports.diagnosis.calibration import calibration
from funnelcast.reports.diagnosis.conflict import conflict
from funnelcast.reports.diagnosis.distribution import distribution
from funnelcast.reports.diagnosis.epochs import epochs
from funnelcast.reports.diagnosis.frequency import frequency
from funnelcast.reports.diagnosis.parts import attention, gates
from funnelcast.reports.diagnosis.scored import Scored
from funnelcast.reports.diagnosis.timing import timing
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
