"""Fitting a network's target statistics on the training rows of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns
from funnelcast.data.loader import Loader
from funnelcast.data.table import Table
from funnelcast.experiments.experiment import Experiment
from funnelcast.experiments.groups import group_by
from funnelcast.layers.embedding import Embedding
from funnelcast.models.base import Model
from funnelcast.models.lightgbm import LightGBM
from funnelcast.models.network import FunnelModel, NetworkRecipe
from funnelcast.models.stacked import Stacked, network_of
from funnelcast.training.objective import replica
from funnelcast.training.statistics import fit_layer, folds_by_key, folds_by_time, folds_of, id_counts


def with_statistics(
    experiment: Experiment, table: Table, model: FunnelModel, train: Columns, *, started: bool = False
) -> Columns:
    """The training rows `train`, the first ones of the table's, with the fold of each; the model's target statistics
    are fitted on them. Where the model reads none, `train` as it is. `started`: the model has a bundle's statistics,
    which stay as far as `fit_layer` says.
    """
    recipe, layer = cast(NetworkRecipe, experiment.model), model.statistics
    config = recipe.statistics
    if recipe.embedding_min_rows == 1 and config is None:
        return train
    rows, used = Batch.of(train), _used_rows(experiment, train)
    if isinstance(model.embedding, Embedding):
        model.embedding.keep(id_counts(table.encoder.inputs, rows, used), started=started)
    if config is None or layer is None:
        return train
    folds = _folds(table, train, config.folds, experiment.seed)
    fit_layer(layer, rows, used, folds, _order(table), layer.fitted if started else None)
    layer.to(model.device)
    return replace(train, fold=folds)


def reading_as_in_training(
    experiment: Experiment, table: Table, model: Model, train: Columns
) -> tuple[Model, Columns] | None:
    """A finished model, and all training rows of the table, such that no row reads statistics that count its own
    label: of a network another one around the same parameters, with the fold of each row, as in training. Both as they
    are where no statistics are read; none where the model's are not of these rows alone, as after a warm start, and of
    boosters, which do not keep those of folds.
    """
    if not experiment.model.differentiable:
        return None if cast(LightGBM, experiment.model).ids != "categorical" else (model, train)
    trees = experiment.stacking
    if isinstance(model, Stacked) and model.has_trees and trees is not None and trees.ids != "categorical":
        return None
    config = cast(NetworkRecipe, experiment.model).statistics
    if config is None:
        return model, train
    own = replica(network_of(model))
    layer = own.statistics
    assert layer is not None
    before = layer.fitted.arrays()
    folds = _folds(table, train, config.folds, experiment.seed)
    fit_layer(layer, Batch.of(train), _used_rows(experiment, train), folds, _order(table))
    layer.to(own.device)
    if not _are_equal(before, layer.fitted.arrays()):
        return None
    return model.over(own) if isinstance(model, Stacked) else own, replace(train, fold=folds)


def _are_equal(some: Mapping[str, NDArray[Any]], others: Mapping[str, NDArray[Any]]) -> bool:
    """But for the order of sums."""
    return some.keys() == others.keys() and all(
        values.shape == others[name].shape and np.allclose(values, others[name], rtol=1e-9)
        for name, values in some.items()
    )


def _used_rows(experiment: Experiment, train: Columns) -> NDArray[np.int64]:
    """Those that training sees: of some weight, and not sampled away."""
    used = np.arange(len(train)) if train.weight is None else np.flatnonzero(train.weight)
    sampled = Loader.of(train, 1, experiment.seed, experiment.keep_negatives).chosen
    return used if sampled is None else np.intersect1d(used, sampled.numpy(), assume_unique=True)


def _order(table: Table) -> Literal["other", "earlier"]:
    return "earlier" if table.schema.split.by == "time" else "other"


def _folds(table: Table, train: Columns, folds: int, seed: int) -> NDArray[np.uint8]:
    """By the schema's split: in the order of time, by key, or at random. A key or time that the table does not keep is
    unknown: then by the order of the rows, or at random."""
    split, side = table.schema.split, table.side("train").slice(0, len(train))
    fields = [name for name, _ in table.encoder.inputs.fields]
    if split.column is not None and split.column in (*side.column_names, *fields):
        keys = group_by(table, train, side, split.column).keys
        return folds_by_time(keys, folds) if split.by == "time" else folds_by_key(keys, folds, seed)
    return folds_by_time(np.arange(len(train)), folds) if split.by == "time" else folds_of(len(train), folds, seed)
