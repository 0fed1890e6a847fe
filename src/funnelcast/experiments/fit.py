"""Fitting what an experiment names: a network, boosted trees, or both."""

from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from funnelcast.boosting.fit import Boosting
from funnelcast.boosting.lightgbm import LightGBM
from funnelcast.boosting.model import BoostedModel
from funnelcast.boosting.shares import stack
from funnelcast.boosting.stacked import Stacked, network_of
from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns
from funnelcast.data.encoder import Encoder
from funnelcast.data.progress import Progress, silent
from funnelcast.data.table import Table
from funnelcast.errors import FunnelcastError
from funnelcast.experiments.adaptation_start import starting_of
from funnelcast.experiments.calibrate import left_aside, with_calibration
from funnelcast.experiments.crosses import with_crosses
from funnelcast.experiments.experiment import Experiment
from funnelcast.experiments.groups import group_by
from funnelcast.experiments.statistics import with_statistics
from funnelcast.experiments.warm_start import grown_encoder, warm_start
from funnelcast.models.base import Model
from funnelcast.models.network import FunnelModel, NetworkRecipe
from funnelcast.runtime.threads import cores
from funnelcast.serving.bundle import Bundle
from funnelcast.training.adapting import Starting
from funnelcast.training.callback import Callbacks
from funnelcast.training.losses import build_loss_weights, rates_given_parent
from funnelcast.training.stage_run import Plan
from funnelcast.training.trainer import Trainer


def fitted(
    experiment: Experiment,
    table: Table,
    folder: Path,
    init: Bundle | None,
    progress: Progress,
    callbacks: Callbacks | None = None,
) -> Bundle:
    """The trained model, not measured yet."""
    encoder = table.encoder if init is None else grown_encoder(table.encoder, init)
    experiment = with_crosses(experiment, table, encoder, init)
    dev, aside = left_aside(experiment.calibration, table, experiment.seed)
    fit = _fit_network if experiment.model.differentiable else _fit_boosters
    model, starting = fit(experiment, table, dev, encoder, init, folder, progress, callbacks)
    if experiment.stacking is not None:
        model = _stacked(experiment, experiment.stacking, network_of(model), table, dev, encoder, folder, progress)
    described, rates = experiment.model_dump(mode="json"), table.label_rates("train")
    bundle = Bundle(model, encoder, described, table.protocol, rates, {}, starting)
    if experiment.calibration is None or aside is None:
        return bundle
    return with_calibration(bundle, aside, experiment.calibration.by, experiment.seed)


def build_model(experiment: Experiment, encoder: Encoder) -> FunnelModel:
    """A fresh network with parameters from the experiment's seed, on its device. Raises InputError for vectors."""
    return cast(NetworkRecipe, experiment.model).fresh(encoder, experiment.seed).to(device_of(experiment))


def device_of(experiment: Experiment) -> torch.device:
    """The device of an experiment. Raises FunnelcastError for a GPU that is not there."""
    if experiment.device == "cuda" and not torch.cuda.is_available():
        raise FunnelcastError("device = 'cuda', but PyTorch sees no GPU; set device = 'auto' or 'cpu'")
    cuda = experiment.device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if cuda else "cpu")


def _fit_network(
    experiment: Experiment,
    table: Table,
    dev: Columns,
    encoder: Encoder,
    init: Bundle | None,
    folder: Path,
    progress: Progress,
    callbacks: Callbacks | None,
) -> tuple[Model, Starting]:
    model = build_model(experiment, encoder)
    if init is not None:
        warm_start(model, encoder, init, experiment.keep_negatives)
    elif cast(NetworkRecipe, experiment.model).start == "rates":
        model.start_at([rate / _kept(experiment, table) for rate in table.label_rates("train")])
    train = with_statistics(experiment, table, model, table.part("train"), started=init is not None)
    trainer = trainer_of(experiment, table, model, folder, progress, callbacks=callbacks)
    trainer.run(train, dev, trained=init is not None)
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
    callbacks: Callbacks | None = None,
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
        experiment.unknown_ids,
        workers_of(experiment),
        experiment.checkpoint_seconds,
    )
    keys = partial(_keys, table, rows=rows)
    return Trainer(model, loss_weights, table.schema.funnel, plan, folder, progress, keys, callbacks)


def _keys(table: Table, by: str, rows: int | None) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Of the training rows, or the first of them, and whether they are known. Raises TableError for a name that is
    none."""
    train, side = table.part("train"), table.side("train")
    if rows is not None:
        train, side = train.take(np.arange(min(rows, len(train)))), side.slice(0, rows)
    groups = group_by(table, train, side, by)
    return groups.keys, groups.is_known


def _fit_boosters(
    experiment: Experiment,
    table: Table,
    dev: Columns,
    encoder: Encoder,
    init: Bundle | None,
    folder: Path,
    progress: Progress,
    callbacks: Callbacks | None,
) -> tuple[Model, None]:
    return fit_boosters(experiment, encoder, table.part("train"), dev, folder, progress), None


def _stacked(
    experiment: Experiment,
    recipe: LightGBM,
    network: FunnelModel,
    table: Table,
    dev: Columns,
    encoder: Encoder,
    folder: Path,
    progress: Progress,
) -> Stacked:
    """A trained network with boosted trees; those that a killed run had finished are not fitted again."""
    own = experiment.model_copy(update={"model": recipe})
    trees = fit_boosters(own, encoder, table.part("train"), dev, folder / "trees", progress)
    return stack(network, trees, dev, experiment.seed, experiment.keep_negatives, workers_of(experiment))


def fit_boosters(
    experiment: Experiment, encoder: Encoder, train: Columns, dev: Columns, folder: Path, progress: Progress = silent
) -> BoostedModel:
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
