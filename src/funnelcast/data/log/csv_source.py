"""CSV logs: staged once, what must be a number and is one as numbers, the rest as text; what cannot be split into
columns is rejected by line."""

from __future__ import annotations

import csv
import gzip
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from funnelcast.data.log.batches import arrow_writer, even
from funnelcast.data.log.engine import Engine
from funnelcast.data.log.text_lists import with_lists
from funnelcast.errors import DataError

_LONGEST_HEADER = 1_000_000
_FIRST_LINES = 1000
_MOST_ERRORS = 10_000  # that are recorded of a CSV before its columns of numbers are read as text


@dataclass(frozen=True)
class Header:
    """The first line of a CSV."""

    names: tuple[str, ...]
    delimiter: str


class NoHeaderError(DataError):
    """The first line of a CSV holds data, not the names of its columns."""


@dataclass(frozen=True)
class Rejected:
    """A line of a CSV that cannot be split into its columns."""

    line: int
    reason: str
    text: str


def read_header(path: Path, *, gzipped: bool) -> Header:
    """Column names, and what parts them: the most frequent of comma, semicolon, tab and bar. Raises DataError."""
    try:
        with (gzip.open if gzipped else open)(path, "rb") as stream:
            line = stream.readline(_LONGEST_HEADER).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason} in its first line); convert it") from None
    delimiter = max(",;\t|", key=line.count)
    try:
        names = tuple(name.strip() for name in next(csv.reader([line], delimiter=delimiter), []))
    except csv.Error as error:
        raise DataError(
            f"{path} has a first line that is no CSV ({error}); write lines that end in LF or CR LF"
        ) from None
    if not any(names):
        raise DataError(f"{path} has an empty first line; it must name the columns")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        if all(map(_is_number, twice)):
            raise NoHeaderError(f"{path} has data such as {twice[0]!r} in its first line; it must name the columns")
        raise DataError(f"{path} names the column {twice[0]!r} twice in its first line; rename one")
    return Header(names, delimiter)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class StagedCsv:
    """The wanted columns of a CSV on disk, in the order of its lines."""

    texts: Path
    """Parquet: text, and float64 for numbers that do not lie apart."""
    numbers: Path | None
    """Arrow: the numbers that lie apart, if any do."""
    rejected: list[Rejected]


def stage_csv(
    path: Path,
    header: Header,
    wanted: list[str],
    folder: Path,
    name: str,
    numbers: list[str],
    apart: list[str],
    separators: dict[str, str],
) -> StagedCsv:
    """Write the wanted columns to files `folder/NAME.…` as text, or lists of texts where they have `separators`; those
    of `numbers` that hold nothing but numbers as float64, and such of them as are to lie `apart` to a file of their
    own."""
    numbers = _numbers_at_first(path, header, numbers)
    while True:
        with Engine(folder) as engine:  # its own, for its own list of rejected lines
            rows = with_lists(engine.stream(_lines(engine, path, header, wanted, numbers)), separators)
            moved = [column for column in apart if column in numbers]
            texts, other = folder / f"{name}.text.parquet", folder / f"{name}.numbers.arrow"
            _write(rows, texts, other, moved)
            unfit = _unfit(engine, header) if numbers else set()
            if not unfit:
                return StagedCsv(texts, other if moved else None, _rejected(engine))
        numbers = [column for column in numbers if column not in unfit]


def _lines(engine: Engine, path: Path, header: Header, wanted: list[str], numbers: list[str]) -> Any:
    """The wanted columns; without `numbers` every error of a line is recorded."""
    kinds = {f"c{i}": "DOUBLE" if column in numbers else "VARCHAR" for i, column in enumerate(header.names)}
    table = engine.con.read_csv(
        str(path), auto_detect=False, delim=header.delimiter, quote='"', escape='"', header=False, skip=1,
        columns=kinds, store_rejects=True, rejects_limit=_MOST_ERRORS if numbers else 0,
    )  # fmt: skip
    return table.select(**{column: f"c{header.names.index(column)}" for column in wanted})


def _numbers_at_first(path: Path, header: Header, columns: list[str]) -> list[str]:
    """The columns that hold numbers, or nothing, in the first lines."""
    indices = {column: header.names.index(column) for column in columns}
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    with suppress(csv.Error), opened(path, "rt", encoding="utf-8", errors="replace", newline="") as stream:
        for line in islice(csv.reader(stream, delimiter=header.delimiter), 1, _FIRST_LINES):
            texts = dict(enumerate(line))
            indices = {c: i for c, i in indices.items() if not texts.get(i) or _is_number(texts[i])}
    return list(indices)


def _unfit(engine: Engine, header: Header) -> set[str]:
    """The columns with a text that was to be a number; all where there were too many errors to tell."""
    errors = engine.con.table("reject_errors")
    found = engine.row(
        {"all": errors.count(), "unfit": errors.column_name.collect(where=errors.error_type == "CAST", distinct=True)},
        errors,
    )
    if found["all"] >= _MOST_ERRORS:
        return set(header.names)
    return {header.names[int(column.removeprefix("c"))] for column in found["unfit"] or ()}


def _write(rows: pa.RecordBatchReader, texts: Path, numbers: Path, apart: list[str]) -> None:
    """Part the columns of rows into a Parquet file and, of those `apart`, an Arrow file."""
    rest = [column for column in rows.schema.names if column not in apart]
    kept, moved = (pa.schema([rows.schema.field(column) for column in columns]) for columns in (rest, apart))
    with pq.ParquetWriter(texts, kept) as one, arrow_writer(numbers, moved) as other:
        for batch in even(rows):
            one.write_batch(batch.select(rest))
            other.write_batch(batch.select(apart))


def _rejected(engine: Engine) -> list[Rejected]:
    errors = engine.con.table("reject_errors")
    first = errors.group_by("line").aggregate(reason=errors.error_type.min(), text=errors.csv_line.min())
    rows = engine.fetch(first.order_by("line")).to_pylist()
    return [Rejected(row["line"], _in_words(row["reason"]), row["text"] or "") for row in rows]


def _in_words(reason: str) -> str:
    reason = reason.lower().replace("_", " ")
    return f"{reason}, not UTF-8" if reason == "invalid encoding" else reason
