"""Which rows a delta is for: those of a value in a column, compared as texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from funnelcast.errors import DeltaError, InputError, did_you_mean


class Keys:
    """Of several deltas: all of one column, or a single one for all rows."""

    def __init__(self, keys: Sequence[dict[str, str]]) -> None:
        """Raises DeltaError for two of one key, of several columns, or one for all rows beside others."""
        columns = sorted({column for key in keys for column in key})
        if len(columns) > 1:
            raise DeltaError(
                f"deltas are for values of {' and '.join(columns)}; one predictor takes those of one column"
            )
        if len(keys) > 1 and not all(keys):
            raise DeltaError(
                "one of several deltas has no key, so it is for all rows; adapt it with a key, or give it alone"
            )
        self.column = columns[0] if columns else None
        self.values = [value for key in keys for value in key.values()]
        value, times = max(Counter(self.values).items(), key=lambda pair: pair[1], default=("", 1))
        if times > 1:
            raise DeltaError(f"{times} deltas are for {self.column} = {value!r}; give one of them")
        self.of_all = bool(keys) and self.column is None

    def of(self, rows: pa.RecordBatch) -> NDArray[np.int32]:
        """(N,): the place of each row's key, -1 where it has none. Raises InputError where the column is missing."""
        if self.column is None:
            return np.full(rows.num_rows, 0 if self.of_all else -1, np.int32)
        texts = key_texts(rows, self.column)
        indices = pc.index_in(texts, pa.array(self.values, pa.string()), skip_nulls=True)
        return np.asarray(pc.fill_null(indices, -1))


def key_texts(rows: pa.RecordBatch | pa.Table, column: str) -> pa.Array | pa.ChunkedArray:
    """(N,): the values of a column as texts, `7` for 7 and 7.0, null for NaN. Raises InputError."""
    names = rows.schema.names
    if column not in names:
        hint = did_you_mean(column, names)
        fix = hint if hint.startswith("did") else "add it, null where none applies"
        raise InputError(f"the rows lack the column {column!r} of the key; {fix}")
    try:
        return _as_texts(rows.column(column))
    except pa.ArrowException:
        kind = rows.schema.field(column).type
        raise InputError(f"column {column!r} holds {kind}, and a key is one value per row; choose another") from None


def _as_texts(values: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Whole floats as integers are, as data frames turn missing integers into floats."""
    if not pa.types.is_floating(values.type):
        return values.cast(pa.string())
    values = values.cast(pa.float32()) if pa.types.is_float16(values.type) else values  # half floats lack functions
    values = pc.if_else(pc.is_nan(values), None, values)
    is_whole = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), 2.0**53))
    whole = pc.if_else(is_whole, values, None).cast(pa.int64())
    return pc.coalesce(whole.cast(pa.string()), values.cast(pa.string()))
