"""Raw rows to score: Parquet, CSV or Arrow, read as `prepare` reads them, in batches of one size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from funnelcast.data.encoder import Encoder
from funnelcast.data.files import work_folder
from funnelcast.data.log.batches import even
from funnelcast.data.log.csv_source import NoHeaderError, read_header
from funnelcast.data.log.engine import Engine, engine_errors
from funnelcast.data.log.roles import Use, columns, uses
from funnelcast.data.log.row_files import RowFiles, find_row_files
from funnelcast.data.log.sources import ROW, Source, kind_of, open_source
from funnelcast.data.log.stdin import NAME, STDIN, stdin_file, stdin_stream
from funnelcast.data.log.text_types import as_type, is_no_integer, is_unreadable, text_tables, text_types
from funnelcast.data.log.typed_files import (
    BATCH_ROWS,
    TypedFile,
    arrow_file,
    parquet_file,
    require_same_columns,
    typed_rows,
)
from funnelcast.errors import InputError
from funnelcast.schema.features import ListFeature

_RAW = "raw Ali-CCP files are prepared first: funnelcast prepare ali-ccp, then funnelcast predict BUNDLE TABLE"
_OPEN = {"parquet": parquet_file, "arrow": arrow_file}


def read_rows(
    path: Path, encoder: Encoder, out: Path, batch_rows: int = BATCH_ROWS, texts: dict[str, int] | None = None
) -> Iterator[pa.RecordBatch]:
    """Batches of `batch_rows` rows, the last one smaller, at least one; of the columns that the encoder's schema names.
    They come from a file, a folder of files or, for `-`, standard input.

    A CSV is staged beside `out`, what they are read for. `texts` takes the number of texts, read as unknown, in each
    column whose ids are integers. Raises DataError, InputError.
    """
    texts = {} if texts is None else texts
    with work_folder(out) as folder:
        if path != STDIN:
            yield from even(_read(find_row_files(path), encoder, folder, texts), batch_rows)
        elif stream := stdin_stream():
            _require_features(NAME, stream.schema.names, encoder)
            yield from even(typed_rows([stream], columns(uses(encoder.schema, split=False))), batch_rows)
        else:
            with stdin_file(folder) as file:
                yield from even(_read(find_row_files(file), encoder, folder, texts), batch_rows)


def _read(found: RowFiles, encoder: Encoder, folder: Path, texts: dict[str, int]) -> Iterator[pa.RecordBatch]:
    is_text, wanted = found.format == "csv", list(uses(encoder.schema, split=False))
    files = [] if is_text else [_OPEN[found.format](file) for file in found.files]
    have = _header(found, encoder, wanted) if is_text else files[0].schema.names
    partitions = {column: values for column, values in found.partitions.items() if column not in have}
    _require_features(found.files[0], [*have, *partitions], encoder)
    constants = _constants(found.path, partitions, wanted, encoder, folder, texts)
    if is_text:
        files = _stage(found, [use for use in wanted if use.column in have], encoder, folder, texts)
    yield from typed_rows(files, columns(wanted), constants)


def _header(found: RowFiles, encoder: Encoder, wanted: list[Use]) -> Sequence[str]:
    """The columns of the first file, and what is wanted in each. Raises InputError."""
    for name, feature in encoder.schema.features.items():
        if isinstance(feature, ListFeature) and feature.separator is None:
            raise InputError(
                f"{found.path} is a CSV, and the lists that {name!r} needs are text there; give Parquet with lists, or "
                'set what parts the texts, as separator = "|", in the schema and train again'
            )
    try:
        with engine_errors(found.path):
            headers = [read_header(file, gzipped=kind_of(file) == ".csv.gz").names for file in found.files]
    except NoHeaderError as error:
        raise InputError(f"{error}; {_RAW}") from None
    require_same_columns(found.files, [columns(wanted).keys() & header for header in headers])
    return headers[0]


def _constants(
    path: Path,
    partitions: dict[str, list[str | None]],
    wanted: list[Use],
    encoder: Encoder,
    folder: Path,
    texts: dict[str, int],
) -> pa.Table | None:
    """What the names of folders say, a row per file: texts, which are typed as those of a CSV are."""
    own = [use for use in wanted if use.column in partitions]
    if not own:
        return None
    file = folder / "partitions.parquet"
    pq.write_table(pa.table({column: pa.array(partitions[column], pa.string()) for column in columns(own)}), file)
    with engine_errors(path), Engine(folder) as engine:
        table = engine.numbered(engine.parquet([file]), ROW)
        source = Source(path, (path,), (0,), len(next(iter(partitions.values()))), table, is_text=True)
        (typed,) = _typed(engine, [source], own, encoder, texts)
        return pq.read_table(typed)


def _stage(
    found: RowFiles, wanted: list[Use], encoder: Encoder, folder: Path, texts: dict[str, int]
) -> list[TypedFile]:
    with Engine(folder) as engine:
        sources = []
        for i, file in enumerate(found.files):
            with engine_errors(file):
                lists = [use for use in wanted if use.separator]
                source = open_source(engine, file, f"rows-{i}", columns(wanted), lists)
            for rejected in source.rejected:
                raise InputError(f"{file}, line {rejected.line}: {rejected.reason}; mend it, as every row is scored")
            sources.append(source)
        typed = _typed(engine, sources, wanted, encoder, texts)
    return [parquet_file(file, source.path) for file, source in zip(typed, sources, strict=True)]


def _typed(
    engine: Engine, sources: list[Source], wanted: list[Use], encoder: Encoder, texts: dict[str, int]
) -> list[Path]:
    """A file per source with all its texts as what the model reads, or as what they are; adds to the count of texts."""
    types = _types(engine, sources, wanted, encoder)
    files: list[Path] = []
    for source in sources:
        with engine_errors(source.path):
            for column, count in _check_texts(engine, source, types, columns(wanted)).items():
                texts[column] = texts.get(column, 0) + count
            typed = source.table.select(**{c: as_type(source.table[c], t) for c, t in types.items()})
            files.append(engine.save(typed, f"typed-{len(files)}"))
    return files


def _require_features(path: Path | str, have: Sequence[str], encoder: Encoder) -> None:
    """Raises InputError, with the nearest names there are, where a feature has no column."""
    try:
        encoder.encode(pa.record_batch({name: pa.nulls(0) for name in have}))
    except InputError as error:
        has_any = any(encoder.schema.column(name) in have for name in encoder.schema.features)
        raise InputError(f"{path}: {error}" + ("" if has_any else f"; {_RAW}")) from None


def _types(engine: Engine, sources: list[Source], wanted: list[Use], encoder: Encoder) -> dict[str, str]:
    """What is copied is typed by its content in all files, what the model reads by what it was fitted on."""
    types = text_types(engine, sources, [use for use in wanted if use.role in ("keep", "label", "weight")])
    types |= {encoder.schema.column(name): "float64" for name in encoder.numbers}
    types |= {use.column: "float64" for use in wanted if use.role == "weights"}
    lists = [(each.name, each.vocabulary) for each in encoder.inputs.lists]
    for name, vocabulary in [*encoder.inputs.fields, *lists]:
        if vocabulary in encoder.vocabularies:
            types[encoder.schema.column(name)] = "int64" if encoder.vocabularies[vocabulary].is_integer else "string"
    return {column: kind for column, kind in types.items() if column in columns(wanted)}


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
