"""CSV logs: staged once as Parquet, every column text; what cannot be split into columns is rejected by line."""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path

from funnelcast.data.log.engine import Engine
from funnelcast.errors import DataError

_LONGEST_HEADER = 1_000_000


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


def stage_csv(path: Path, header: Header, wanted: list[str], folder: Path, name: str) -> tuple[Path, list[Rejected]]:
    """Write the wanted columns as text to `folder/NAME.text.parquet`, in the order of the lines."""
    columns = {f"c{i}": "VARCHAR" for i in range(len(header.names))}
    with Engine(folder) as engine:  # its own, for its own list of rejected lines
        table = engine.con.read_csv(
            str(path), auto_detect=False, delim=header.delimiter, quote='"', escape='"', header=False, skip=1,
            columns=columns, store_rejects=True,
        )  # fmt: skip
        staged = engine.save(table.select(**{w: f"c{header.names.index(w)}" for w in wanted}), f"{name}.text")
        return staged, _rejected(engine)


def _rejected(engine: Engine) -> list[Rejected]:
    errors = engine.con.table("reject_errors")
    first = errors.group_by("line").aggregate(reason=errors.error_type.min(), text=errors.csv_line.min())
    rows = engine.fetch(first.order_by("line")).to_pylist()
    return [Rejected(row["line"], _in_words(row["reason"]), row["text"] or "") for row in rows]


def _in_words(reason: str) -> str:
    reason = reason.lower().replace("_", " ")
    return f"{reason}, not UTF-8" if reason == "invalid encoding" else reason
