"""Folds of a table's training rows, which part them as the schema's split parts train, dev and test."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.columns import Columns
from funnelcast.data.table import Table
from funnelcast.experiments.groups import group_by
from funnelcast.training.statistics import folds_by_key, folds_by_time, folds_of


def with_folds(table: Table, train: Columns, folds: int, seed: int) -> Columns:
    """The training rows `train`, the first ones of the table's, with the fold of each: in the order of time, by key, or
    at random. A key or time that the table does not keep is unknown: then by the order of the rows, or at random."""
    split = table.schema.split
    keys = split_keys(table, "train", train)
    if split.by == "time":
        own = folds_by_time(np.arange(len(train)) if keys is None else keys, folds)
    else:
        own = folds_of(len(train), folds, seed) if keys is None else folds_by_key(keys, folds, seed)
    return replace(train, fold=own)


def split_keys(table: Table, part: str, rows: Columns) -> NDArray[Any] | None:
    """(N,) what the schema splits by, of the first `rows` of a part: a kept column or an id feature; none where it is
    neither, or rows are drawn at random."""
    column, side = table.schema.split.column, table.side(part).slice(0, len(rows))
    fields = [name for name, _ in table.encoder.inputs.fields]
    is_known = column is not None and column in (*side.column_names, *fields)
    return group_by(table, rows, side, str(column)).keys if is_known else None
