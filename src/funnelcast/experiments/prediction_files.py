"""Where predictions go: a file, a folder of files, or standard output. Files and folders are whole or not there."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from funnelcast.data.files import check_free, new_file, new_folder
from funnelcast.data.parquet import parquet_writer
from funnelcast.errors import InputError, did_you_mean

FORMATS = ("csv", "parquet", "arrow")
PART_ROWS = 1 << 20
"""Rows of a file in a folder; the last one has fewer."""
MARK = "_predictions.json"
"""In a folder of predictions; one without it is not replaced."""
STDOUT = Path("-")
_SUFFIXES = {".parquet": "parquet", ".csv": "csv", ".arrow": "arrow", ".feather": "arrow"}
_VERSION = 1


@dataclass(frozen=True)
class Target:
    """A place, and the format of what is written there."""

    path: Path
    format: str
    """csv, parquet or arrow."""
    is_folder: bool

    @property
    def is_stdout(self) -> bool:
        """Whether it is no place on disk."""
        return self.path == STDOUT

    def check(self, *, replace: bool) -> None:
        """Raises FunnelcastError where something is there that must not be replaced."""
        if not (self.is_stdout or self.is_folder) and self.path.is_dir():
            named = self.path / f"predictions{self.path.suffix}"
            raise InputError(f"--out {self.path} is a folder; name a file, such as {named}")
        if not self.is_stdout:
            check_free(self.path, replace=replace, mark=MARK if self.is_folder else "")


def target_of(out: Path | str, file_format: str | None = None) -> Target:
    """The target that a name means: `-` is standard output, a name without ending or with a slash at its end a folder.
    The format is the given one, else that of the name, else CSV for standard output and Parquet for a folder.

    Raises InputError.
    """
    path = Path(out)
    if file_format is not None and file_format not in FORMATS:
        raise InputError(f"--format {file_format!r} is not known; {did_you_mean(file_format, FORMATS)}")
    if path == STDOUT:
        if file_format == "parquet":
            raise InputError("--format parquet needs a file, as its readers start at the end; give csv or arrow for -")
        return Target(path, file_format or "csv", is_folder=False)
    named = _SUFFIXES.get(path.suffix.lower())
    is_folder = str(out).endswith("/") or not path.suffix
    if named and file_format and named != file_format:
        raise InputError(f"--out {out} is named as {named}, but --format is {file_format}; change one of them")
    if not (named or file_format or is_folder):
        near = did_you_mean(path.suffix, _SUFFIXES)
        raise InputError(
            f"--out {out} must end in .parquet or .csv, .arrow or .feather, or in / for a folder; --format sets the "
            "format of a file with another ending" + (f"; {near}" if near.startswith("did") else "")
        )
    return Target(path, file_format or named or "parquet", is_folder)


class Writer:
    """Writes tables of the same columns, one after the other; a new file after each `part_rows` rows."""

    def __init__(self, file_format: str, sink: Callable[[int], Any], part_rows: int | None = None) -> None:
        """`sink`: path or stream of the file with a number, from 0."""
        self._format, self._sink, self._part_rows = file_format, sink, part_rows
        self._schema: pa.Schema | None = None
        self._file: Any = None
        self._parts = self._left = 0
        self.rows = 0

    def write(self, table: pa.Table) -> None:
        """Append rows. Raises InputError for what the format cannot hold, and for values that do not fit into the type
        that the column has had so far."""
        if self._schema is None:
            self._schema = table.schema
        table = _fitted(table, self._schema)
        while len(table) or not self._parts:
            if self._file is None:
                self._file = _open(self._sink(self._parts), self._format, table)
                self._parts, self._left = self._parts + 1, self._part_rows or sys.maxsize
            rows = table.slice(0, self._left)
            self._file.write_table(rows)
            self.rows, self._left = self.rows + len(rows), self._left - len(rows)
            table = table.slice(len(rows))
            if not self._left:
                self.close()

    def close(self) -> None:
        """End the file that is open."""
        if self._file is not None:
            self._file.close()
            self._file = None


@contextmanager
def prediction_writer(target: Target, fingerprint: str, *, replace: bool = False) -> Iterator[Writer]:
    """A writer to a target, which is there when the block ends well. `fingerprint`: of the bundle, for the mark of a
    folder. Raises FunnelcastError where something is there that must not be replaced."""
    target.check(replace=replace)
    if target.is_stdout:
        writer = Writer(target.format, lambda part: sys.stdout.buffer)
        yield writer
        writer.close()
        sys.stdout.buffer.flush()
    elif target.is_folder:
        with new_folder(target.path, replace=replace, mark=MARK) as folder:
            writer = Writer(target.format, lambda part: folder / f"part-{part:05}.{target.format}", PART_ROWS)
            with _closed(writer):
                yield writer
            mark = {"version": _VERSION, "bundle": fingerprint, "rows": writer.rows}
            (folder / MARK).write_text(json.dumps(mark, indent=1) + "\n")
    else:
        with new_file(target.path) as file, _closed(writer := Writer(target.format, lambda part: file)):
            yield writer


@contextmanager
def _closed(writer: Writer) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(Exception):  # that of the block is the one to tell
            writer.close()
        raise
    writer.close()


def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    if table.schema.equals(schema):
        return table
    try:
        return table.cast(schema)
    except (pa.ArrowInvalid, ValueError) as error:
        raise InputError(f"later rows do not fit the types of the first ones: {error}; mend them") from None


def _open(sink: Any, file_format: str, first: pa.Table) -> Any:
    if file_format == "parquet":
        return parquet_writer(sink, first)
    if file_format == "arrow":
        return (pa.ipc.new_file if isinstance(sink, Path) else pa.ipc.new_stream)(sink, first.schema)
    for field in first.schema:
        if pa.types.is_nested(field.type) or pa.types.is_binary(field.type):
            raise InputError(f"{field.name!r} holds {field.type}, which no CSV can; give --out FILE.parquet")
    return pa.csv.CSVWriter(sink, first.schema)
