"""Running one experiment: prepared table in, run folder with log, checkpoint, bundle and results out.

RUN/experiment.json   what the run is of: settings, and the table's protocol and checksums
RUN/log.jsonl         one line per epoch, or per booster
RUN/checkpoint/       while training
RUN/bundle/           the trained model
RUN/results.json      metrics on the dev and test parts, with those of the baselines
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns
from funnelcast.data.encoder import Encoder
from funnelcast.data.files import alone_in, clear_stale, require_folder, write_atomic
from funnelcast.data.progress import Progress, silent
from funnelcast.data.table import Table
from funnelcast.errors import ConfigError, FunnelcastError
from funnelcast.experiments.baselines.measure import Baselines
from funnelcast.experiments.evaluate import measure_part
from funnelcast.experiments.experiment import Experiment
from funnelcast.experiments.groups import group_by
from funnelcast.experiments.presets import experiment_of
from funnelcast.experiments.starting import starting_of
from funnelcast.experiments.statistics import with_statistics
from funnelcast.experiments.warm import grown_encoder, require_networks, warm_start
from funnelcast.models.base import Model
from funnelcast.models.lightgbm import LightGBM
from funnelcast.models.network import FunnelModel, NetworkRecipe
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.predictor import Predictor, bundle_of
from funnelcast.threads import cores
from funnelcast.training.adapting import Starting
from funnelcast.training.boosting import Boosting
from funnelcast.training.checkpoint import drop_checkpoint
from funnelcast.training.course import Plan
from funnelcast.training.losses import build_loss_weights, rates_given_parent
from funnelcast.training.trainer import Trainer


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    bundle: Bundle
    results: dict[str, Any]


def train(
    experiment: Experiment | Path | str | None,
    table: Table | Path | str,
    folder: Path | str,
    *,
    init: Bundle | Predictor | Path | str | None = None,
    parts: Sequence[str] = ("dev", "test"),
    baselines: bool | Baselines = True,
    progress: Progress = silent,
) -> Run:
    """Train, or go on where a killed run of the same experiment and table stopped, and measure the `parts`.

    `experiment`: its TOML file too, or the name of a preset; `recommended` for none. The test part is not opened before
    training ends, and never where it is not among them. `init`: a bundle to start from. `baselines`: whether simple
    models are measured on the same rows, under "baselines" of every output; those of the table itself where several
    runs share them. Raises FunnelcastError.
    """
    experiment = experiment_of(experiment)
    table, folder = table if isinstance(table, Table) else Table.open(table), Path(folder)
    init = None if init is None else bundle_of(init)
    require_folder(folder)
    experiment.check(table.encoder, experiment.name)
    _check_negatives(experiment, table)
    if init is not None:
        require_networks(experiment.model, init)
    _claim(folder, experiment, table, init)
    if baselines is True:
        baselines = Baselines(table, workers_of(experiment), progress)
    with alone_in(folder):
        return _run(experiment, table, folder, init, parts, baselines or None, progress)


def _run(
    experiment: Experiment,
    table: Table,
    folder: Path,
    init: Bundle | None,
    parts: Sequence[str],
    baselines: Baselines | None,
    progress: Progress,
) -> Run:
    """In a folder that is this run's alone."""
    finished = folder / "results.json"
    if finished.is_file():
        bundle, results = Bundle.load(folder / "bundle"), _read(finished)
    else:
        bundle, results = _fitted(experiment, table, folder, init, progress), {}
    missing = [part for part in parts if table.rows(part) and part not in results]
    if missing or not finished.is_file():
        results |= {part: _measured(bundle, table, part, baselines) for part in missing}
        bundle = replace(bundle, metrics=results)
        bundle.save(folder / "bundle", replace=True)
        write_atomic(finished, json.dumps(results, indent=1).encode())
    drop_checkpoint(folder / "checkpoint")
    return Run(folder, bundle, results)


def _measured(bundle: Bundle, table: Table, part: str, baselines: Baselines | None) -> dict[str, Any]:
    """Metrics by output of a part; with each those of the baselines, if these are measured."""
    result, log_p, log_q = measure_part(bundle, table, part)
    outputs: dict[str, Any] = result["outputs"]
    found = {} if baselines is None else baselines.compared(part, log_p, log_q)
    return {name: metrics | ({"baselines": found[name]} if found else {}) for name, metrics in outputs.items()}


def _fitted(experiment: Experiment, table: Table, folder: Path, init: Bundle | None, progress: Progress) -> Bundle:
    """The trained model, not measured yet."""
    encoder = table.encoder if init is None else grown_encoder(table.encoder, init)
    fit = _fit_network if experiment.model.differentiable else _fit_boosters
    model, starting = fit(experiment, table, encoder, init, folder, progress)
    described, rates = experiment.model_dump(mode="json"), table.label_rates("train")
    return Bundle(model, encoder, described, table.protocol, rates, {}, starting)


def build_model(experiment: Experiment, encoder: Encoder) -> FunnelModel:
    """A fresh network with parameters from the experiment's seed, on its device. Raises InputError for vectors."""
    return cast(NetworkRecipe, experiment.model).fresh(encoder, experiment.seed).to(device_of(experiment))


def device_of(experiment: Experiment) -> torch.device:
    """The device of an experiment. Raises FunnelcastError for a GPU that is not there."""
    if experiment.device == "cuda" and not torch.cuda.is_available():
        raise FunnelcastError("device = 'cuda', but PyTorch sees no GPU; set device = 'auto' or 'cpu'")
    cuda = experiment.device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if cuda else "cpu")


def _check_negatives(experiment: Experiment, table: Table) -> None:
    """Raises FunnelcastError where sampling negatives could not be undone exactly: where not all are known."""
    first = table.manifest["labels"]["train"][table.schema.funnel.names[0]]
    unobserved = table.rows("train") - first["observed"]
    if experiment.keep_negatives < 1 and unobserved:
        raise FunnelcastError(
            f"keep_negatives = {experiment.keep_negatives} needs the first step observed in every training row, and "
            f"{unobserved:,} rows of {table.folder} lack it; set keep_negatives = 1, or prepare without these rows"
        )


def _fit_network(
    experiment: Experiment, table: Table, encoder: Encoder, init: Bundle | None, folder: Path, progress: Progress
) -> tuple[Model, Starting]:
    model = build_model(experiment, encoder)
    if init is not None:
        warm_start(model, encoder, init, experiment.keep_negatives)
    elif cast(NetworkRecipe, experiment.model).start == "rates":
        model.start_at([rate / _kept(experiment, table) for rate in table.label_rates("train")])
    train = with_statistics(experiment, table, model, table.part("train"), started=init is not None)
    trainer = trainer_of(experiment, table, model, folder, progress)
    trainer.run(train, table.part("dev"), trained=init is not None)
    starting = starting_of(experiment, table, trainer, train, _kept(experiment, table))
    if model.statistics is not None:
        model.statistics.forget_folds()
    return model, starting


def trainer_of(
    experiment: Experiment,
    table: Table,
    model: FunnelModel,
    folder: Path,
    progress: Progress = silent,
    rows: int | None = None,
) -> Trainer:
    """What trains an experiment's network. `rows`: that only so many are trained on, the first ones."""
    given = None
    if experiment.model.loss_space == "both":
        parents = table.schema.funnel.parents
        shares = rates_given_parent(Batch.of(table.part("train")), parents)
        given = [0.0 if parent < 0 else share for share, parent in zip(shares, parents, strict=True)]
    loss_weights = build_loss_weights(experiment.loss, training_rates(experiment, table), given).to(model.device)
    plan = Plan(
        experiment.loss,
        experiment.optimizer,
        experiment.stages,
        experiment.seed,
        experiment.keep_negatives,
        workers_of(experiment),
        experiment.checkpoint_seconds,
    )
    return Trainer(model, loss_weights, table.schema.funnel, plan, folder, progress, lambda by: _keys(table, by, rows))


def _keys(table: Table, by: str, rows: int | None) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Of the training rows, or the first of them, and whether they are known. Raises TableError for a name that is
    none."""
    train, side = table.part("train"), table.side("train")
    if rows is not None:
        train, side = train.take(np.arange(min(rows, len(train)))), side.slice(0, rows)
    groups = group_by(table, train, side, by)
    return groups.keys, groups.is_known


def _fit_boosters(
    experiment: Experiment, table: Table, encoder: Encoder, init: Bundle | None, folder: Path, progress: Progress
) -> tuple[Model, None]:
    return fit_boosters(experiment, encoder, table.part("train"), table.part("dev"), folder, progress), None


def fit_boosters(
    experiment: Experiment, encoder: Encoder, train: Columns, dev: Columns, folder: Path, progress: Progress = silent
) -> Model:
    """The boosters of an experiment, fitted in a run's folder."""
    recipe, funnel = cast(LightGBM, experiment.model), encoder.schema.funnel
    workers, keep = workers_of(experiment), experiment.keep_negatives
    boosting = Boosting(recipe, funnel, folder, experiment.seed, keep, workers, progress)
    return boosting.run(recipe.build(encoder.inputs, funnel), train, dev)


def workers_of(experiment: Experiment) -> int:
    """Threads that train."""
    return cores() if experiment.workers == "auto" else experiment.workers


def training_rates(experiment: Experiment, table: Table) -> list[float]:
    """Rate of each step among the rows that it is trained on, so with the negatives that are sampled away."""
    kept, rates = _kept(experiment, table), table.label_rates("train")
    if experiment.model.loss_space == "given_parent":
        rows, parents = Batch.of(table.part("train")), table.schema.funnel.parents
        given = rates_given_parent(rows, parents)
        return [rate / kept if parent < 0 else rate for rate, parent in zip(given, parents, strict=True)]
    return [rate / kept for rate in rates]


def _kept(experiment: Experiment, table: Table) -> float:
    """Share of the training rows that are used."""
    keep, first = experiment.keep_negatives, table.label_rates("train")[0]
    return first + keep * (1 - first) if keep < 1 else 1.0


def _claim(folder: Path, experiment: Experiment, table: Table, init: Bundle | None) -> None:
    """Mark the run folder as this experiment's on this table, or see that it is. Raises FunnelcastError.

    A folder with other things in it is nobody's run, and stays as it is. A run that failed before its first checkpoint
    leaves nothing to lose: its folder is free for another.
    """
    claim = {"experiment": _settings(experiment), "protocol": table.protocol, "files": table.manifest["files"]}
    claim["init"] = init.fingerprint if init is not None else None
    claim = json.loads(json.dumps(claim))
    path = folder / "experiment.json"
    clear_stale(path)
    found = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    if found and path.name not in found:
        raise FunnelcastError(f"{folder} is not empty and holds no run; choose another folder with --out")
    if not found - {path.name, "log.jsonl"}:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(claim, indent=1).encode())
    elif (before := _completed(_read(path))) != claim:
        raise FunnelcastError(f"{folder} holds a run {_otherwise(before, claim)}; choose another folder with --out")


def _settings(experiment: Experiment) -> Any:
    """Return what decides a run, as JSON has it."""
    return experiment.model_dump(mode="json", exclude={"data", "workers", "checkpoint_seconds", "device"})


def _completed(claim: dict[str, Any]) -> dict[str, Any]:
    """Return a claim with the defaults of settings that its version did not know, so that its run goes on."""
    try:
        return {**claim, "experiment": _settings(Experiment.from_dict(claim["experiment"]))}
    except ConfigError:  # of settings that are no more
        return claim


def _otherwise(before: dict[str, Any], now: dict[str, Any]) -> str:
    """How the run of one claim is not that of another."""
    if before["experiment"] != now["experiment"]:
        return f"of another experiment: {_first_change(before['experiment'], now['experiment'])}"
    return "that started from another model" if before["init"] != now["init"] else "on another table"


def _first_change(before: Any, now: Any, name: str = "") -> str:
    """The first setting that is not the same, with both values."""
    for inner in [*before, *now] if isinstance(before, dict) and isinstance(now, dict) else []:
        if before.get(inner) != now.get(inner):
            return _first_change(before.get(inner), now.get(inner), f"{name}.{inner}".lstrip("."))
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        at = next(i for i, pair in enumerate(zip(before, now, strict=True)) if pair[0] != pair[1])
        return _first_change(before[at], now[at], f"{name}.{at}")
    return f"{name} is {json.dumps(before)} there, {json.dumps(now)} here"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FunnelcastError(f"{path} is damaged ({error}); delete {path.parent}, or choose another --out") from None
