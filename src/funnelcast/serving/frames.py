"""Rows as users hand them over, as Arrow: data frames, tables, dicts of columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from funnelcast.data.arrow import array_of, column_of
from funnelcast.errors import InputError


def as_arrow(rows: Any) -> pa.Table:
    """Of plain values. Raises InputError for what is no table, and for a doubled column."""
    return _decoded(_as_table(rows))


def one_batch(table: pa.Table) -> pa.RecordBatch:
    """All rows of a table in one chunk."""
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else _empty(table)


def one_row(values: Mapping[str, Any], others: Sequence[str]) -> pa.RecordBatch:
    """A row of these values. Raises InputError for one of a column that `others` have too."""
    if not isinstance(values, Mapping):
        raise InputError(f"shared is a {type(values).__name__}; give a dict of one value for each column")
    doubled = [name for name in values if name in others]
    if doubled:
        raise InputError(f"{', '.join(doubled)} is shared and stands in the rows too; give it once")
    return one_batch(as_arrow({name: [value] for name, value in values.items()}))


def with_shared(rows: pa.RecordBatch, shared: pa.RecordBatch) -> pa.RecordBatch:
    """The rows with the columns of one row that holds for all."""
    of_all = shared.take(array_of(np.zeros(rows.num_rows, np.int64)))
    return pa.RecordBatch.from_arrays([*rows, *of_all], [*rows.schema.names, *shared.schema.names])


def _as_table(rows: Any) -> pa.Table:
    if isinstance(rows, pa.RecordBatch):
        return pa.Table.from_batches([rows])
    if isinstance(rows, pa.Table):
        return rows
    try:
        if isinstance(rows, dict):
            _require_lists(rows)
            return pa.table({n: column_of(v) if isinstance(v, (list, np.ndarray)) else v for n, v in rows.items()})
        if hasattr(rows, "iloc") and hasattr(rows, "columns"):
            _require_unique([str(name) for name in rows.columns])
            return pa.Table.from_pandas(rows, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"the rows cannot be read as columns of one type each: {error}") from None
    one = ", as frame.iloc[[0]] for one row" if hasattr(rows, "iloc") else ""
    raise InputError(f"cannot read a {type(rows).__name__}; give a DataFrame{one}, an Arrow table or a dict of columns")


def _require_lists(rows: dict[str, Any]) -> None:
    for name, values in rows.items():
        if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
            raise InputError(f"column {name!r} is {values!r}, not a list of values; for one row, write [{values!r}]")


def _decoded(table: pa.Table) -> pa.Table:
    """With plain values in place of dictionaries, as of pandas' categories. Raises InputError for a doubled column."""
    _require_unique(table.column_names)
    for i, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(i, field.name, table.column(i).cast(field.type.value_type))
    return table


def _require_unique(names: list[str]) -> None:
    if len(set(names)) < len(names):
        doubled = next(name for name in names if names.count(name) > 1)
        raise InputError(f"the rows have two columns {doubled!r}; rename one")


def _empty(table: pa.Table) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in table.schema], schema=table.schema)
