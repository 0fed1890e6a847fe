"""Rows on disk as record batches, one after the other: Parquet for what queries read; Arrow, larger but as fast as
memory, for what is only read through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

BATCH = 65_536
"""Rows of a batch."""


def read_batches(path: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of one Parquet file in order, at most `BATCH` at a time."""
    with pq.ParquetFile(path, pre_buffer=False) as file:  # else it keeps all that it has read
        yield from file.iter_batches(BATCH, columns=columns)


@contextmanager
def arrow_writer(path: Path, schema: pa.Schema) -> Iterator[Any]:
    """Writes record batches to an Arrow file."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        yield writer


def write_arrow(path: Path, batches: pa.RecordBatchReader) -> None:
    """Write rows in batches of one size."""
    with arrow_writer(path, batches.schema) as writer:
        for batch in even(batches):
            writer.write_batch(batch)


def read_arrow(path: Path) -> Iterator[pa.RecordBatch]:
    """The batches that were written."""
    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as reader:
        yield from reader


def even(batches: Iterable[pa.RecordBatch], size: int = BATCH) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of `size`, the last one smaller; no rows are one empty batch, no batch is none."""
    held: list[pa.RecordBatch] = []
    rows, given = 0, False
    for batch in batches:
        held.append(batch)
        rows += len(batch)
        while rows >= size:
            table = pa.Table.from_batches(held).combine_chunks()
            yield table.slice(0, size).to_batches()[0]
            held, given, rows = table.slice(size).to_batches(), True, rows - size
    if held and (any(len(batch) for batch in held) or not given):
        table = pa.Table.from_batches(held).combine_chunks()
        yield (table.to_batches() or [empty(table.schema)])[0]


def empty(schema: pa.Schema) -> pa.RecordBatch:
    """A batch without rows."""
    return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)
