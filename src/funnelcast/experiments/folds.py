"""Folds of a table's training rows, which part them as the schema's split parts train, dev and test."""

from dataclasses import replace

import numpy as np

from funnelcast.data.columns import Columns
from funnelcast.data.table import Table
from funnelcast.experiments.groups import group_by
from funnelcast.training.statistics import folds_by_key, folds_by_time, folds_of


def with_folds(table: Table, train: Columns, folds: int, seed: int) -> Columns:
    """The training rows `train`, the first ones of the table's, with the fold of each: in the order of time, by key, or
    at random. A key or time that the table does not keep is unknown: then by the order of the rows, or at random."""
    split, side = table.schema.split, table.side("train").slice(0, len(train))
    fields = [name for name, _ in table.encoder.inputs.fields]
    if split.column is not None and split.column in (*side.column_names, *fields):
        keys = group_by(table, train, side, split.column).keys
        own = folds_by_time(keys, folds) if split.by == "time" else folds_by_key(keys, folds, seed)
    elif split.by == "time":
        own = folds_by_time(np.arange(len(train)), folds)
    else:
        own = folds_of(len(train), folds, seed)
    return replace(train, fold=own)
