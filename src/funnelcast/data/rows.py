"""Raw rows to score, from a file: Parquet or CSV, in batches of one size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from funnelcast.data.encoder import Encoder
from funnelcast.data.sources import find_files, kind_of
from funnelcast.errors import DataError, InputError

BATCH_ROWS = 65536


def read_rows(path: Path, encoder: Encoder, batch_rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """Batches of `batch_rows` rows, the last one smaller. Raises DataError, InputError."""
    files = find_files(path)
    try:
        if kind_of(path) == ".parquet":
            yield from _even((b for file in files for b in pq.ParquetFile(file).iter_batches(batch_rows)), batch_rows)
        else:
            yield from _even(_read_csv(path, encoder), batch_rows)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def _read_csv(path: Path, encoder: Encoder) -> Iterator[pa.RecordBatch]:
    lists = [name for name, feature in encoder.schema.features.items() if feature.kind in ("multi", "sequence")]
    if lists:
        raise InputError(f"{path} is a CSV, which holds no lists as {lists[0]!r} needs; give Parquet")
    types = {encoder.schema.column(name): pa.float64() for name in encoder.numbers}
    for name, vocabulary in encoder.inputs.fields:
        if vocabulary in encoder.vocabularies:
            types[encoder.schema.column(name)] = encoder.vocabularies[vocabulary].values.type
    options = pa.csv.ConvertOptions(column_types=types, strings_can_be_null=False)
    with pa.csv.open_csv(path, convert_options=options) as reader:
        yield from reader


def _even(batches: Iterable[pa.RecordBatch], size: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of `size`: the last bits of a prediction depend on how rows are cut."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        while sum(len(b) for b in held) >= size:
            table = pa.Table.from_batches(held).combine_chunks()
            yield table.slice(0, size).to_batches()[0]
            held = table.slice(size).to_batches()
    if held:
        yield pa.Table.from_batches(held).combine_chunks().to_batches()[0]
