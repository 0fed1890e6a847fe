"""Texts of a log split into lists, while its rows are read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from funnelcast.data.log.batches import even
from funnelcast.data.texts import LISTS, split


def with_lists(rows: pa.RecordBatchReader, separators: dict[str, str]) -> pa.RecordBatchReader:
    """The same rows with the texts in columns split at the separator of each."""
    fields = [pa.field(field.name, LISTS) if field.name in separators else field for field in rows.schema]
    return pa.RecordBatchReader.from_batches(pa.schema(fields), (_split(batch, separators) for batch in rows))


def _split(batch: pa.RecordBatch, separators: dict[str, str]) -> pa.RecordBatch:
    for column, separator in separators.items():
        place = batch.schema.get_field_index(column)
        batch = batch.set_column(place, column, split(batch.column(column), separator))
    return batch


def write_lists(path: Path, rows: pa.RecordBatchReader, separators: dict[str, str]) -> None:
    """Write such rows to a Parquet file."""
    rows = with_lists(rows, separators)
    with pq.ParquetWriter(path, rows.schema) as writer:
        for batch in even(rows):
            writer.write_batch(batch)
