"""Fitting a network's target statistics on the training rows of a table."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns
from funnelcast.data.loader import Loader
from funnelcast.data.table import Table
from funnelcast.experiments.experiment import Experiment
from funnelcast.experiments.groups import group_by
from funnelcast.layers.embedding import Embedding
from funnelcast.models.network import FunnelModel, NetworkRecipe
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
    rows = Batch.of(train)
    used = np.arange(len(train)) if train.weight is None else np.flatnonzero(train.weight)
    sampled = Loader.of(train, 1, experiment.seed, experiment.keep_negatives).chosen
    if sampled is not None:
        used = np.intersect1d(used, sampled.numpy(), assume_unique=True)
    if isinstance(model.embedding, Embedding):
        model.embedding.keep(id_counts(table.encoder.inputs, rows, used), started=started)
    if config is None or layer is None:
        return train
    folds = _folds(table, train, config.folds, experiment.seed)
    is_ordered = table.schema.split.by == "time"
    fit_layer(layer, rows, used, folds, "earlier" if is_ordered else "other", layer.fitted if started else None)
    layer.to(model.device)
    return replace(train, fold=folds)


def _folds(table: Table, train: Columns, folds: int, seed: int) -> NDArray[np.uint8]:
    """By the schema's split: in the order of time, by key, or at random. A key or time that the table does not keep is
    unknown: then by the order of the rows, or at random."""
    split, side = table.schema.split, table.side("train").slice(0, len(train))
    fields = [name for name, _ in table.encoder.inputs.fields]
    if split.column is not None and split.column in (*side.column_names, *fields):
        keys = group_by(table, train, side, split.column).keys
        return folds_by_time(keys, folds) if split.by == "time" else folds_by_key(keys, folds, seed)
    return folds_by_time(np.arange(len(train)), folds) if split.by == "time" else folds_of(len(train), folds, seed)
