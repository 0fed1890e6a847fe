"""Fitting a network's target statistics on the training rows of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from funnelcast.boosting.lightgbm import LightGBM
from funnelcast.boosting.stacked import Stacked, network_of
from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns
from funnelcast.data.loader import Loader
from funnelcast.data.table import Table
from funnelcast.experiments.experiment import Experiment
from funnelcast.experiments.folds import with_folds
from funnelcast.layers.embedding import Embedding
from funnelcast.models.base import Model
from funnelcast.models.network import FunnelModel, NetworkRecipe
from funnelcast.training.objective import replica
from funnelcast.training.statistics import fit_layer, id_counts


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
    train = with_folds(table, train, config.folds, experiment.seed)
    assert train.fold is not None
    fit_layer(layer, rows, used, train.fold, _order(table), layer.fitted if started else None)
    layer.to(model.device)
    return train


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
    train = with_folds(table, train, config.folds, experiment.seed)
    assert train.fold is not None
    fit_layer(layer, Batch.of(train), _used_rows(experiment, train), train.fold, _order(table))
    layer.to(own.device)
    if not _are_equal(before, layer.fitted.arrays()):
        return None
    return model.over(own) if isinstance(model, Stacked) else own, train


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
