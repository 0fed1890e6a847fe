"""Files whose columns have types, Parquet and Arrow, as record batches of one schema."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from funnelcast.data.log.batches import empty
from funnelcast.data.log.engine import engine_errors
from funnelcast.errors import InputError

BATCH_ROWS = 65536
"""Rows of a batch, at most."""


@dataclass(frozen=True)
class TypedFile:
    """Columns of a file, and its rows on demand."""

    name: Path | str
    schema: pa.Schema
    read: Callable[[list[str]], Iterator[pa.RecordBatch]]
    """Batches with these columns, and maybe others."""


def parquet_file(file: Path, name: Path | None = None) -> TypedFile:
    """A Parquet file, of which a row group is in memory at a time; messages call it `name`. Raises DataError."""
    with engine_errors(name or file):
        return TypedFile(name or file, pq.read_schema(file), partial(_parquet_batches, file))


def arrow_file(file: Path) -> TypedFile:
    """An Arrow IPC file or stream, of which a record batch is in memory at a time. Raises DataError."""
    with engine_errors(file), pa.OSFile(str(file)) as source:
        return TypedFile(file, _open_arrow(source).schema, partial(_arrow_batches, file))


def arrow_stream(stream: Any, name: str) -> TypedFile:
    """An Arrow IPC stream that can be read once. Raises DataError."""
    with engine_errors(name):
        reader = pa.ipc.open_stream(stream)
    return TypedFile(name, reader.schema, lambda columns: _at_most(reader))


def typed_rows(
    files: Sequence[TypedFile], wanted: Iterable[str], constants: pa.Table | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of all files, one file after the other, in batches of one schema: the wanted columns that they have.

    `constants` (a row per file) has columns that the files lack. Raises DataError for a file that cannot be read,
    InputError, naming file and column, for files that differ.
    """
    schema = _common_schema(files, list(wanted))
    yield _with_constants(empty(schema), constants, 0)
    for i, file in enumerate(files):
        with engine_errors(file.name):
            for batch in file.read(schema.names):
                yield _with_constants(batch.select(schema.names).cast(schema), constants, i)


def require_same_columns(files: Sequence[Path | str], columns: Sequence[set[str]]) -> None:
    """Raises InputError, naming file and column, unless all files have the same columns."""
    for file, own in zip(files, columns, strict=True):
        if lacking := own ^ columns[0]:
            column = min(lacking)
            without = file if column in columns[0] else files[0]
            raise InputError(f"{without} lacks {column!r}, which other files have; add it, null where unknown")


def _with_constants(batch: pa.RecordBatch, constants: pa.Table | None, row: int) -> pa.RecordBatch:
    if constants is None:
        return batch
    for name in constants.column_names:
        batch = batch.append_column(name, pa.repeat(constants[name][row], len(batch)))
    return batch


def _common_schema(files: Sequence[TypedFile], wanted: list[str]) -> pa.Schema:
    """The wanted columns in their order, of types that hold the values of all files. Raises InputError."""
    schemas = [_schema_of(file, wanted) for file in files]
    require_same_columns([file.name for file in files], [set(schema.names) for schema in schemas])
    for file, schema in zip(files, schemas, strict=True):
        try:
            pa.unify_schemas([schemas[0], schema], promote_options="permissive")
        except pa.ArrowTypeError as error:
            first = Path(files[0].name).name
            raise InputError(f"{file.name} does not fit {first}: {error}; cast the column to one type") from None
    return pa.unify_schemas(schemas, promote_options="permissive")


def _schema_of(file: TypedFile, wanted: list[str]) -> pa.Schema:
    names = file.schema.names
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{file.name} has two columns {twice!r}; rename one")
    types = {name: file.schema.field(name).type for name in wanted if name in names}
    return pa.schema({n: t.value_type if pa.types.is_dictionary(t) else t for n, t in types.items()})


def _parquet_batches(file: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(file, pre_buffer=False) as rows:  # else it keeps all that it has read
        yield from rows.iter_batches(BATCH_ROWS, columns=columns)


def _arrow_batches(file: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    with pa.OSFile(str(file)) as source:
        names = _open_arrow(source).schema.names
        options = pa.ipc.IpcReadOptions(included_fields=[names.index(column) for column in columns])
        yield from _at_most(_open_arrow(source, options))


def _open_arrow(source: pa.NativeFile, options: pa.ipc.IpcReadOptions | None = None) -> Any:
    source.seek(0)
    is_file = source.read(6) == b"ARROW1"
    source.seek(0)
    return (pa.ipc.open_file if is_file else pa.ipc.open_stream)(source, options=options)


def _at_most(reader: Any) -> Iterator[pa.RecordBatch]:
    """The batches of a reader, the long ones in parts."""
    own = reader if hasattr(reader, "read_next_batch") else map(reader.get_batch, range(reader.num_record_batches))
    for batch in own:
        for start in range(0, len(batch), BATCH_ROWS):
            yield batch.slice(start, BATCH_ROWS)
