"""Running one experiment: prepared table in, run folder with log, checkpoint, bundle and results out.

RUN/experiment.json   what the run is of: settings, and the table's protocol and checksums
RUN/log.jsonl         one line per epoch
RUN/checkpoint/       while training
RUN/bundle/           the trained model
RUN/results.json      metrics on the dev and test parts
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from funnelcast.data.columns import UNOBSERVED, Columns
from funnelcast.data.files import write_atomic
from funnelcast.data.loader import generator_of
from funnelcast.data.progress import Progress, silent
from funnelcast.data.table import Table
from funnelcast.errors import FunnelcastError
from funnelcast.evaluation.funnel import FunnelMetrics, measure_funnel
from funnelcast.evaluation.score import score
from funnelcast.experiments.experiment import Experiment
from funnelcast.models.base import FunnelModel
from funnelcast.serving.bundle import Bundle
from funnelcast.training.losses import build_loss_weights
from funnelcast.training.trainer import Plan, Trainer


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    bundle: Bundle
    results: dict[str, Any]


def train(
    experiment: Experiment, table: Table, folder: Path, *, init: Bundle | None = None, progress: Progress = silent
) -> Run:
    """Train, or go on where a killed run of the same experiment and table stopped, and measure dev and test.

    The test part is not opened before training ends. `init`: a bundle to start from; its vocabularies must be the
    beginning of the table's, which `prepare` sees to with the same bundle. Raises FunnelcastError.
    """
    experiment.check(table.schema.funnel, experiment.name)
    _claim(folder, experiment, table)
    finished = folder / "results.json"
    if finished.is_file():
        return Run(folder, Bundle.load(folder / "bundle"), json.loads(finished.read_text()))
    model = build_model(experiment, table)
    if init is not None:
        warm_start(model, table, init)
    model = _fit(experiment, table, model, folder, progress)
    results = {part: _measured(model, experiment, table, part) for part in ("dev", "test") if table.rows(part)}
    bundle = Bundle(model, table.encoder, experiment.model_dump(mode="json"), table.protocol, results)
    bundle.save(folder / "bundle", replace=True)
    write_atomic(finished, json.dumps(results, indent=1).encode())
    return Run(folder, bundle, results)


def build_model(experiment: Experiment, table: Table) -> FunnelModel:
    """A fresh model with parameters from the experiment's seed, on its device."""
    model = experiment.model.build(table.encoder.inputs, table.schema.funnel)
    model.reset(experiment.model.embedding_init, generator_of(experiment.seed, "parameters"))
    return model.to(device_of(experiment))


def device_of(experiment: Experiment) -> torch.device:
    """The device of an experiment. Raises FunnelcastError for a GPU that is not there."""
    if experiment.device == "cuda" and not torch.cuda.is_available():
        raise FunnelcastError("device = 'cuda', but PyTorch sees no GPU; set device = 'auto' or 'cpu'")
    cuda = experiment.device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if cuda else "cpu")


def _fit(experiment: Experiment, table: Table, model: FunnelModel, folder: Path, progress: Progress) -> FunnelModel:
    train_rows = table.part("train")
    loss_weights = build_loss_weights(experiment.loss, label_rates(train_rows)).to(device_of(experiment))
    plan = Plan(
        experiment.loss,
        experiment.optimizer,
        experiment.stages,
        experiment.seed,
        experiment.keep_negatives,
        (os.cpu_count() or 1) if experiment.workers == "auto" else experiment.workers,
        experiment.checkpoint_seconds,
    )
    trainer = Trainer(model, loss_weights, table.schema.funnel, plan, folder, progress)
    return trainer.run(train_rows, table.part("dev"))


def label_rates(rows: Columns) -> list[float]:
    """Share of reached rows among those where a step was observed, per step; NaN where it never was."""
    assert rows.labels is not None
    observed = (rows.labels != UNOBSERVED).sum(0)
    return list(np.where(observed > 0, (rows.labels == 1).sum(0) / np.maximum(observed, 1), np.nan))


def warm_start(model: FunnelModel, table: Table, init: Bundle) -> None:
    """Copy the parameters of `init`; ids that are new to it keep their fresh rows.

    Raises FunnelcastError when the two are not the same recipe, or an id means another value.
    """
    from_tables = {k: v for t in init.model.embedding.all_tables() for k, v in t.blocks().items()}
    into_tables = {k: v for t in model.embedding.all_tables() for k, v in t.blocks().items()}
    for name, vocabulary in init.encoder.vocabularies.items():
        mine = table.encoder.vocabularies.get(name)
        if mine is None or not mine.values[: len(vocabulary.values)].equals(vocabulary.values):
            raise FunnelcastError(
                f"vocabulary {name!r} of the table does not begin with the bundle's ids; prepare it with --init BUNDLE"
            )
    own = model.state_dict()
    fixed = {k: v for k, v in init.model.state_dict().items() if not k.startswith("embedding.")}
    strange = [k for k in own if not k.startswith("embedding.") and (k not in fixed or fixed[k].shape != own[k].shape)]
    if strange or from_tables.keys() != into_tables.keys():
        raise FunnelcastError("the bundle is of another recipe or schema; use the same [model] and features")
    with torch.no_grad():
        model.load_state_dict(fixed, strict=False)
        for name, rows in from_tables.items():
            into_tables[name][: len(rows)] = rows


def _measured(model: FunnelModel, experiment: Experiment, table: Table, part: str) -> dict[str, Any]:
    return {name: m.as_dict() for name, m in measure(model, experiment, table.part(part), table).outputs.items()}


def measure(model: FunnelModel, experiment: Experiment, rows: Columns, table: Table) -> FunnelMetrics:
    assert rows.labels is not None
    log_p, log_q = score(model, rows, experiment.keep_negatives)
    return measure_funnel(table.schema.funnel, rows.labels, log_p, log_q, rows.weight)


def _claim(folder: Path, experiment: Experiment, table: Table) -> None:
    """Mark the run folder as this experiment's on this table, or see that it is. Raises FunnelcastError."""
    settings = experiment.model_dump(mode="json", exclude={"data", "workers", "checkpoint_seconds", "device"})
    claim = {"experiment": settings, "protocol": table.protocol, "files": table.manifest["files"]}
    path = folder / "experiment.json"
    if path.is_file() and json.loads(path.read_text()) != json.loads(json.dumps(claim)):
        raise FunnelcastError(f"{folder} holds a run of another experiment or table; choose another folder with --out")
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(claim, indent=1).encode())
