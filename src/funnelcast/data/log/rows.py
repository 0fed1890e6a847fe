"""Raw rows to score, from a file: Parquet or CSV, read as `prepare` reads them, in batches of one size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from funnelcast.data.encoder import Encoder
from funnelcast.data.files import work_folder
from funnelcast.data.log.csv_source import read_header
from funnelcast.data.log.engine import Engine, engine_errors
from funnelcast.data.log.roles import Use, columns, uses
from funnelcast.data.log.sources import Source, find_files, kind_of, open_source
from funnelcast.data.log.text_types import as_type, as_whole, is_unreadable, text_types
from funnelcast.errors import InputError

BATCH_ROWS = 65536


def read_rows(path: Path, encoder: Encoder, out: Path, batch_rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """Batches of `batch_rows` rows, the last one smaller; a CSV is staged beside `out`, what they are read for.

    Raises DataError, InputError.
    """
    files, kind = find_files(path), kind_of(path)
    batches = _read_parquet(path, files, batch_rows) if kind == ".parquet" else _read_csv(path, kind, encoder, out)
    with engine_errors(path):
        yield from _even(batches, batch_rows)


def _read_parquet(path: Path, files: list[Path], batch_rows: int) -> Iterator[pa.RecordBatch]:
    for file in files:
        with pq.ParquetFile(file) as rows:
            names = rows.schema_arrow.names
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise InputError(f"{file} has two columns {twice!r}; rename one")
            yield from rows.iter_batches(batch_rows)


def _read_csv(path: Path, kind: str, encoder: Encoder, out: Path) -> Iterator[pa.RecordBatch]:
    lists = [name for name, feature in encoder.schema.features.items() if feature.kind in ("multi", "sequence")]
    if lists:
        raise InputError(f"{path} is a CSV, which holds no lists as {lists[0]!r} needs; give Parquet")
    have = read_header(path, gzipped=kind == ".csv.gz").names
    try:
        encoder.encode(pa.RecordBatch.from_arrays([pa.nulls(0)] * len(have), names=list(have)))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    wanted = [use for use in uses(encoder.schema, split=False) if use.column in have and use.role != "weight"]
    with work_folder(out) as folder, Engine(folder) as engine:
        source = open_source(engine, path, "rows", columns(wanted))
        for rejected in source.rejected:
            raise InputError(f"{path}, line {rejected.line}: {rejected.reason}; mend it, as every row is scored")
        types = _types(engine, source, wanted, encoder)
        _check_texts(engine, source, types, columns(wanted))
        yield from engine.stream(source.table.select(**{c: as_type(source.table[c], t) for c, t in types.items()}))


def _types(engine: Engine, source: Source, wanted: list[Use], encoder: Encoder) -> dict[str, str]:
    """What is copied is typed by its content, what the model reads by what it was fitted on."""
    types = text_types(engine, [source], [use for use in wanted if use.role in ("keep", "label")])
    types |= {encoder.schema.column(name): "float64" for name in encoder.numbers}
    for name, vocabulary in encoder.inputs.fields:
        if vocabulary in encoder.vocabularies:
            types[encoder.schema.column(name)] = "int64" if encoder.vocabularies[vocabulary].is_integer else "string"
    return types


def _check_texts(engine: Engine, source: Source, types: dict[str, str], what: dict[str, str]) -> None:
    """Raises InputError for texts among numbers, and where most ids are texts though the model knows integers."""
    counts: dict[str, Any] = {}
    for i, (column, kind) in enumerate(types.items()):
        text = source.table[column]
        wrong = is_unreadable(text) if kind == "float64" else text.notnull() & as_whole(text).isnull()
        if kind != "string":
            counts |= {f"wrong {i}": wrong.sum(), f"all {i}": text.count(), f"example {i}": text.min(where=wrong)}
    found = engine.row(counts, source.table)
    for i, (column, kind) in enumerate(types.items()):
        wrong, total = found.get(f"wrong {i}") or 0, found.get(f"all {i}") or 0
        if wrong > (0 if kind == "float64" else total // 2):
            raise InputError(
                f"{source.path}: {what[column]} needs {'numbers' if kind == 'float64' else 'integers'}, but column "
                f"{column!r} holds text such as {found[f'example {i}']!r} in {wrong} of {source.rows} rows; mend it"
            )


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
