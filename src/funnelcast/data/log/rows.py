"""Raw rows to score, from a file: Parquet or CSV, read as `prepare` reads them, in batches of one size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from funnelcast.data.encoder import Encoder
from funnelcast.data.files import work_folder
from funnelcast.data.log.batches import empty, even, read_batches
from funnelcast.data.log.csv_source import NoHeaderError, read_header
from funnelcast.data.log.engine import Engine, engine_errors
from funnelcast.data.log.roles import Use, columns, uses
from funnelcast.data.log.sources import Source, find_files, kind_of, open_source
from funnelcast.data.log.text_types import as_type, is_no_integer, is_unreadable, text_tables, text_types
from funnelcast.errors import InputError
from funnelcast.schema.features import ListFeature

BATCH_ROWS = 65536
_RAW = "raw Ali-CCP files are prepared first: funnelcast prepare ali-ccp, then funnelcast predict BUNDLE TABLE"


def read_rows(
    path: Path, encoder: Encoder, out: Path, batch_rows: int = BATCH_ROWS, texts: dict[str, int] | None = None
) -> Iterator[pa.RecordBatch]:
    """Batches of `batch_rows` rows, the last one smaller, at least one; of the columns that the encoder's schema names.

    A CSV is staged beside `out`, what they are read for. `texts` takes the number of texts, read as unknown, in each
    column whose ids are integers. Raises DataError, InputError.
    """
    files, kind = find_files(path), kind_of(path)
    with engine_errors(path):
        if kind == ".parquet":
            batches = _read_parquet(files, encoder, batch_rows)
        else:
            batches = _read_csv(path, kind, encoder, out, {} if texts is None else texts)
        yield from even(batches, batch_rows)


def _read_parquet(files: list[Path], encoder: Encoder, batch_rows: int) -> Iterator[pa.RecordBatch]:
    _require_features(files[0], pq.read_schema(files[0]).names, encoder)
    schema = _common_schema(files, list(columns(uses(encoder.schema, split=False))))
    yield empty(schema)
    for file in files:
        with pq.ParquetFile(file, pre_buffer=False) as rows:  # else it keeps all that it has read
            for batch in rows.iter_batches(batch_rows, columns=schema.names):
                yield batch.select(schema.names).cast(schema)


def _common_schema(files: list[Path], wanted: list[str]) -> pa.Schema:
    """The wanted columns in their order, of types that hold the values of all files. Raises InputError."""
    schemas = [_schema_of(file, wanted) for file in files]
    for file, schema in zip(files, schemas, strict=True):
        if lacking := set(schema.names) ^ set(schemas[0].names):
            column = min(lacking)
            without = file if column in schemas[0].names else files[0]
            raise InputError(f"{without} lacks {column!r}, which other files have; add it, null where unknown")
        try:
            pa.unify_schemas([schemas[0], schema], promote_options="permissive")
        except pa.ArrowTypeError as error:
            raise InputError(f"{file} does not fit {files[0].name}: {error}; cast the column to one type") from None
    return pa.unify_schemas(schemas, promote_options="permissive")


def _schema_of(file: Path, wanted: list[str]) -> pa.Schema:
    schema = pq.read_schema(file)
    twice = next((name for name in schema.names if schema.names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{file} has two columns {twice!r}; rename one")
    types = {name: schema.field(name).type for name in wanted if name in schema.names}
    return pa.schema({n: t.value_type if pa.types.is_dictionary(t) else t for n, t in types.items()})


def _read_csv(path: Path, kind: str, encoder: Encoder, out: Path, texts: dict[str, int]) -> Iterator[pa.RecordBatch]:
    for name, feature in encoder.schema.features.items():
        if isinstance(feature, ListFeature) and feature.separator is None:
            raise InputError(
                f"{path} is a CSV, and the lists that {name!r} needs are text there; give Parquet with lists, or set "
                'what parts the texts, as separator = "|", in the schema and train again'
            )
    try:
        have = read_header(path, gzipped=kind == ".csv.gz").names
    except NoHeaderError as error:
        raise InputError(f"{error}; {_RAW}") from None
    _require_features(path, have, encoder)
    wanted = [use for use in uses(encoder.schema, split=False) if use.column in have]
    with work_folder(out) as folder, Engine(folder) as engine:
        source = open_source(engine, path, "rows", columns(wanted), [use for use in wanted if use.separator])
        for rejected in source.rejected:
            raise InputError(f"{path}, line {rejected.line}: {rejected.reason}; mend it, as every row is scored")
        types = _types(engine, source, wanted, encoder)
        texts |= _check_texts(engine, source, types, columns(wanted))
        typed = engine.save(source.table.select(**{c: as_type(source.table[c], t) for c, t in types.items()}), "typed")
        yield empty(pq.read_schema(typed))
        yield from read_batches(typed)


def _require_features(path: Path, have: Sequence[str], encoder: Encoder) -> None:
    """Raises InputError, with the nearest names there are, where a feature has no column."""
    try:
        encoder.encode(pa.record_batch({name: pa.nulls(0) for name in have}))
    except InputError as error:
        has_any = any(encoder.schema.column(name) in have for name in encoder.schema.features)
        raise InputError(f"{path}: {error}" + ("" if has_any else f"; {_RAW}")) from None


def _types(engine: Engine, source: Source, wanted: list[Use], encoder: Encoder) -> dict[str, str]:
    """What is copied is typed by its content, what the model reads by what it was fitted on."""
    types = text_types(engine, [source], [use for use in wanted if use.role in ("keep", "label", "weight")])
    types |= {encoder.schema.column(name): "float64" for name in encoder.numbers}
    types |= {use.column: "float64" for use in wanted if use.role == "weights"}
    lists = [(each.name, each.vocabulary) for each in encoder.inputs.lists]
    for name, vocabulary in [*encoder.inputs.fields, *lists]:
        if vocabulary in encoder.vocabularies:
            types[encoder.schema.column(name)] = "int64" if encoder.vocabularies[vocabulary].is_integer else "string"
    return types


def _check_texts(engine: Engine, source: Source, types: dict[str, str], what: dict[str, str]) -> dict[str, int]:
    """The texts in each column whose ids are integers, words for missing aside.

    Raises InputError for texts among numbers, and where most ids are texts though the model knows integers.
    """
    texts = {}
    for table, names in text_tables(source, [column for column, kind in types.items() if kind != "string"]):
        found = engine.row(_count_wrong(table, names, types), table)
        for i, column in enumerate(names):
            wrong, total, needed = found[f"wrong {i}"] or 0, found[f"all {i}"], _NEEDED[types[column]]
            if wrong > (0 if needed == "numbers" else total // 2):
                raise InputError(
                    f"{source.path}: {what[column]} needs {needed}, but column {column!r} holds text such as "
                    f"{found[f'example {i}']!r} in {wrong} of {total} values; mend it"
                )
            if wrong:
                texts[column] = wrong
    return texts


_NEEDED = {"int64": "integers", "float64": "numbers"}


def _count_wrong(table: Any, columns: list[str], types: dict[str, str]) -> dict[str, Any]:
    counts: dict[str, Any] = {}
    for i, column in enumerate(columns):
        text = table[column]
        wrong = is_unreadable(text) if types[column] == "float64" else is_no_integer(text)
        counts |= {f"wrong {i}": wrong.sum(), f"all {i}": text.count(), f"example {i}": text.min(where=wrong)}
    return counts
