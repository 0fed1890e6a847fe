"""Labelled raw rows that a network is adapted to: what of them counts, and what is wrong with them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from funnelcast.data.encoder import as_float
from funnelcast.data.labels import encode_labels, mend
from funnelcast.errors import InputError, did_you_mean
from funnelcast.schema.dataset import Schema
from funnelcast.serving.frames import one_batch
from funnelcast.serving.keys import key_texts


class TooFewRowsError(InputError):
    """Of the rows none could be held out."""


class Support(NamedTuple):
    """Rows with their labels (N, T), and a weight each (N,) where the schema has one."""

    rows: pa.RecordBatch
    labels: NDArray[np.uint8]
    weight: NDArray[np.float32] | None
    dropped: int
    """Rows that contradict the funnel."""


def read_support(table: pa.Table, schema: Schema) -> Support:
    """Labels are mended as `prepare` does. Raises InputError for rows that cannot be learned from, and DataError for
    inconsistent ones where the schema says so."""
    wanted = [*schema.funnel.label_columns, *filter(None, (schema.weight,))]
    for column in wanted:
        if column not in table.column_names:
            hint = did_you_mean(column, [name for name in table.column_names if name not in wanted])
            what = "weight" if column == schema.weight else "label"
            fix = hint if hint.startswith("did") else "adapting learns from rows with labels; add it"
            raise InputError(f"the rows lack the {what} column {column!r}; {fix}")
    rows = one_batch(table)
    labels, bad = encode_labels(rows, schema.funnel)
    if bad.any():
        row = int(bad.argmax())
        said = ", ".join(f"{name} = {rows.column(name)[row].as_py()!r}" for name in schema.funnel.label_columns)
        raise InputError(f"row {row} has {said}; a label is 0, 1 or missing")
    labels, kept, _ = mend(labels, schema.funnel)
    weight = None if schema.weight is None else _weight(rows, schema.weight)[kept]
    if kept.sum() < 2:
        dropped = f" and {(~kept).sum()} that contradict the funnel" if not kept.all() else ""
        raise TooFewRowsError(f"there are {kept.sum()} rows to adapt to{dropped}, and one is held out; give 2 or more")
    if weight is not None and not weight.any():
        raise InputError(f"every weight in {schema.weight!r} is 0, so there is nothing to learn from")
    return Support(rows.filter(pa.array(kept)), labels[kept], weight, int((~kept).sum()))


def of_key(table: pa.Table, key: dict[str, str]) -> pa.Table:
    """The rows of a key, where they have its column; else all. Raises InputError where the column has no such value, or
    another one has nearly its name."""
    for column, value in key.items():
        if column not in table.column_names:
            hint = did_you_mean(column, table.column_names)
            if hint.startswith("did"):
                raise InputError(f"the rows lack the column {column!r} of the key; {hint}")
            continue
        texts = key_texts(table, column)
        found = table.filter(pc.fill_null(pc.equal(texts, value), False))
        if not len(found) and len(table):
            near = did_you_mean(value, pc.unique(texts).drop_null().to_pylist()[:1000]) or "every value is missing"
            raise InputError(f"no row has {column} = {value!r}; {near}")
        table = found
    return table


def _weight(rows: pa.RecordBatch, column: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # infinite then
        weight = as_float(rows.column(column), column).astype(np.float32)
    bad = ~(np.isfinite(weight) & (weight >= 0))
    if bad.any():
        row = int(bad.argmax())
        raise InputError(f"row {row} has {column} = {rows.column(column)[row].as_py()!r}; a weight is 0 or more")
    return weight
