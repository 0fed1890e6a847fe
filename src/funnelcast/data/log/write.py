"""Encodes staged rows into the parts of a table, batch by batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from funnelcast.data.columns import Columns
from funnelcast.data.encoder import Encoder, as_float
from funnelcast.data.labels import encode_labels, mend
from funnelcast.data.log.staging import FAULT, PART, Staged
from funnelcast.data.progress import Progress
from funnelcast.data.table import PARTS
from funnelcast.data.table_writer import TableWriter
from funnelcast.data.unknown_values import unknown_values
from funnelcast.errors import DataError, InputError
from funnelcast.schema.dataset import Schema


def write_parts(staged: list[Staged], encoder: Encoder, writer: TableWriter, progress: Progress) -> dict[str, int]:
    """Append every good row to its part, in the order of the source; returns how many infinite numbers were read as
    missing, by what tells of them. Raises DataError for columns of another type than those of the training rows."""
    total = sum(pq.read_metadata(each.file).num_rows for each in staged)
    done = 0
    infinite: Counter[str] = Counter()
    for each in staged:
        for batch in each.batches([*each.columns, FAULT, PART]):
            progress("encode", done, total, "rows", each.source.path.name)
            done += batch.num_rows
            good = batch.filter(batch.column(FAULT).is_null()) if batch.column(FAULT).null_count < len(batch) else batch
            try:
                _append(good, encoder, writer)
                infinite.update(_infinite(good, encoder.schema))
            except InputError as error:
                raise DataError(f"{each.source.path} differs from the training rows: {error}") from None
    progress("encode", done, total, "rows")
    return {f"{name}: infinite numbers taken as missing": count for name, count in infinite.items() if count}


def _append(batch: pa.RecordBatch, encoder: Encoder, writer: TableWriter) -> None:
    columns, keep = _encode(batch, encoder)
    side = pa.Table.from_batches([batch.select(list(encoder.schema.keep))])
    unknown = unknown_values(encoder, batch, columns)
    for part, rows in _rows_by_part(batch.column(PART), keep):
        if len(rows) == len(columns):
            writer.part(part).append(columns, side, unknown)
        else:
            kept = side.take(pa.array(rows)) if encoder.schema.keep else None
            writer.part(part).append(columns.take(rows), kept, unknown[rows])


def _infinite(batch: pa.RecordBatch, schema: Schema) -> dict[str, int]:
    """How many infinite numbers each feature has."""
    columns = {name: schema.column(name) for name, feature in schema.features.items() if feature.kind == "numeric"}
    return {name: int(np.count_nonzero(np.isinf(as_float(batch.column(c), c)))) for name, c in columns.items()}


def _encode(batch: pa.RecordBatch, encoder: Encoder) -> tuple[Columns, NDArray[np.bool_]]:
    """Encoded rows with labels and weight, and a mask of those to keep."""
    schema = encoder.schema
    labels, _ = encode_labels(batch, schema.funnel)
    labels, keep, _ = mend(labels, schema.funnel)
    weight = as_float(batch.column(schema.weight), schema.weight).astype(np.float32) if schema.weight else None
    return replace(encoder.encode(batch), labels=labels, weight=weight), keep


def _rows_by_part(parts: pa.Array, keep: NDArray[np.bool_]) -> Iterator[tuple[str, NDArray[np.int64]]]:
    for part in PARTS:
        rows = np.flatnonzero(keep & pc.equal(parts, part).to_numpy(zero_copy_only=False))
        if len(rows):
            yield part, rows
