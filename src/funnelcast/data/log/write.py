"""Encodes staged rows into the parts of a table, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from funnelcast.data.columns import Columns
from funnelcast.data.encoder import Encoder, as_float
from funnelcast.data.labels import encode_labels, mend
from funnelcast.data.log.engine import read_batches
from funnelcast.data.log.staging import FAULT, PART, Staged
from funnelcast.data.progress import Progress
from funnelcast.data.table import PARTS, TableWriter
from funnelcast.errors import DataError, InputError


def write_parts(staged: list[Staged], encoder: Encoder, writer: TableWriter, progress: Progress) -> None:
    """Append every good row to its part, in the order of the source. Raises DataError for columns of another type than
    those of the training rows."""
    total = sum(pq.read_metadata(each.file).num_rows for each in staged)
    done = 0
    for each in staged:
        for batch in read_batches(each.file):
            progress("encode", done, total, "rows", each.source.path.name)
            done += batch.num_rows
            try:
                _append(batch.filter(batch.column(FAULT).is_null()), encoder, writer)
            except InputError as error:
                raise DataError(f"{each.source.path} differs from the training rows: {error}") from None
    progress("encode", done, total, "rows")


def _append(batch: pa.RecordBatch, encoder: Encoder, writer: TableWriter) -> None:
    columns, keep = _encode(batch, encoder)
    side = pa.Table.from_batches([batch.select(list(encoder.schema.keep))])
    for part, rows in _rows_by_part(batch.column(PART), keep):
        writer.part(part).append(columns.take(rows), side.take(pa.array(rows)) if encoder.schema.keep else None)


def _encode(batch: pa.RecordBatch, encoder: Encoder) -> tuple[Columns, NDArray[np.bool_]]:
    """Encoded rows with labels and weight, and a mask of those to keep."""
    schema = encoder.schema
    labels, _ = encode_labels(batch, schema.funnel)
    labels, keep, _ = mend(labels, schema.funnel)
    weight = as_float(batch.column(schema.weight), schema.weight).astype(np.float32) if schema.weight else None
    return replace(encoder.encode(batch), labels=labels, weight=weight), keep


def _rows_by_part(parts: pa.Array, keep: NDArray[np.bool_]) -> Iterator[tuple[str, NDArray[np.int64]]]:
    names = parts.to_numpy(zero_copy_only=False)
    for part in PARTS:
        rows = np.flatnonzero(keep & (names == part))
        if len(rows):
            yield part, rows
