"""Writing Parquet."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_REPEATS = 4


def parquet_writer(path: Path, first: pa.Table) -> pq.ParquetWriter:
    """A writer of tables like `first`. Its columns have dictionaries where values stand `_REPEATS` times or more in the
    mean: of others, such as row ids and probabilities, these take most of the time and make the file larger."""
    repeated = [name for name in first.column_names if _is_repeated(first[name])]
    return pq.ParquetWriter(path, first.schema, use_dictionary=repeated)


def _is_repeated(column: pa.ChunkedArray) -> bool:
    kind = column.type
    if pa.types.is_floating(kind) or pa.types.is_nested(kind):
        return False
    return pa.types.is_dictionary(kind) or bool(_REPEATS * pc.count_distinct(column).as_py() <= len(column))
