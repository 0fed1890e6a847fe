"""Raw logs: which files a path means, whether they are what their name says, and the rows in them or in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from funnelcast.data.log.csv_source import Rejected, read_header, stage_csv
from funnelcast.data.log.engine import Engine, engine_errors
from funnelcast.data.log.roles import NUMERIC_ROLES, Use, only, separators
from funnelcast.data.log.text_lists import write_lists
from funnelcast.errors import DataError, did_you_mean

ROW = "__row"
"""Position of a row in its source, from 0."""
KINDS = (".parquet", ".csv", ".csv.gz")
_GZIP = b"\x1f\x8b"
_ARROW = (b"ARRO", b"\xff\xff\xff\xff")  # a file, a stream


@dataclass(frozen=True)
class Source:
    """One opened log: the requested columns, as the engine reads them, and `ROW`."""

    path: Path
    """Of rows in memory the name of their part."""
    files: tuple[Path, ...]
    starts: tuple[int, ...]
    """Position of the first row of each file."""
    rows: int
    """Rows read, the rejected ones included."""
    table: Any
    rejected: tuple[Rejected, ...] = ()
    is_text: bool = False
    """Whether it is a CSV, every column text but those read as numbers."""
    numbers: Path | None = None
    """An Arrow file with columns of these rows that are not in `table`."""
    lists: frozenset[str] = frozenset()
    """The columns of lists of texts that were one text each."""

    def locate(self, row: int) -> tuple[Path, int]:
        """File of the row at a position, and its number there: rows of Parquet from 1; lines of a CSV from 1, header
        and rejected lines counted, empty lines and line breaks within quotes not."""
        file = int(np.searchsorted(self.starts, row, side="right")) - 1
        number = row - self.starts[file] + (2 if self.is_text else 1)
        for rejected in self.rejected:
            number += rejected.line <= number
        return self.files[file], number


def open_source(
    engine: Engine, log: Path | pa.Table, name: str, wanted: dict[str, str], uses: Sequence[Use] = ()
) -> Source:
    """Open a Parquet file, a folder of them, a CSV, or rows in memory, which go by `name`. `wanted`: columns, with what
    each is for; `uses`: by which some of a CSV are read as numbers at once, and texts are split into lists.

    Raises DataError naming the path, the column and the fix.
    """
    if isinstance(log, pa.Table):
        with engine_errors(name):
            return _open_rows(engine, log, name, wanted, separators(uses))
    return _open_path(engine, log, name, wanted, uses)


def _open_path(engine: Engine, path: Path, name: str, wanted: dict[str, str], uses: Sequence[Use]) -> Source:
    files = find_files(path)
    with engine_errors(path):
        if kind_of(path) == ".parquet":
            return _open_parquet(engine, path, name, files, wanted, separators(uses))
        return _open_csv(engine, path, name, wanted, uses)


def find_files(path: Path) -> list[Path]:
    """The files a path stands for, none of them empty, in order of their names. Raises DataError."""
    require_exists(path)
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path} holds no .parquet file; give a .parquet or .csv file, or a folder of .parquet files")
    for file in files:
        check_content(file, kind_of(file))
    return files


def require_exists(path: Path) -> None:
    """Raises DataError, with the nearest name there is, where there is nothing at a path."""
    if not path.exists():
        near = did_you_mean(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else ""
        raise DataError(f"{path} does not exist" + (f"; {near}" if near.startswith("did") else ""))


def kind_of(path: Path, kinds: Sequence[str] = KINDS) -> str:
    """`.parquet` (a folder too), `.csv`, `.csv.gz` or another one of `kinds`. Raises DataError."""
    kind = ".parquet" if path.is_dir() else next((kind for kind in kinds if path.name.lower().endswith(kind)), "")
    if not kind:
        near = did_you_mean(path.suffix, kinds)
        fix = near if near.startswith("did") else "convert it, or name it by its format"
        raise DataError(f"{path} has none of the extensions {', '.join(kinds)}; {fix}")
    return kind


def check_content(file: Path, kind: str) -> None:
    """Raises DataError for a file that is empty, or begins as no file of its kind does."""
    with engine_errors(file), file.open("rb") as stream:
        start = stream.read(4)
    if not start:
        raise DataError(f"{file} is empty")
    if kind == ".csv" and start.startswith(_GZIP):
        raise DataError(f"{file} is gzip-compressed; name it {file.name}.gz")
    if kind == ".csv.gz" and not start.startswith(_GZIP):
        raise DataError(f"{file} is not gzip-compressed; name it {file.name[: -len('.gz')]}")
    if kind == ".parquet" and start != b"PAR1":
        raise DataError(f"{file} is no Parquet file; write it again, or name it by its format")
    if kind not in KINDS and start not in _ARROW:
        raise DataError(f"{file} is no Arrow file; write it again, or name it by its format")


def _open_parquet(
    engine: Engine, path: Path, name: str, files: list[Path], wanted: dict[str, str], parts: dict[str, str]
) -> Source:
    for file in files:
        names = pq.read_schema(file).names
        if twice := sorted({column for column in names if names.count(column) > 1}):
            raise DataError(f"{file} has two columns {twice[0]!r}; rename one")
    rows = [pq.read_metadata(file).num_rows for file in files]
    starts = tuple(int(start) for start in np.cumsum([0, *rows[:-1]]))
    table = engine.parquet(files)
    names = pq.read_schema(files[0]).names
    _require(path, wanted, names)
    _require_cases(path, wanted, names)
    table = table.select(*wanted)
    parts = {column: separator for column, separator in parts.items() if table[column].type().is_string()}
    if parts:
        file = engine.folder / f"{name}.lists.parquet"
        write_lists(file, engine.stream(table), parts)
        table = engine.parquet([file])
    table = engine.numbered(table, ROW)
    return Source(path, tuple(files), starts, sum(rows), table, lists=frozenset(parts))


def _open_rows(engine: Engine, rows: pa.Table, name: str, wanted: dict[str, str], parts: dict[str, str]) -> Source:
    """By way of a file: memory holds them once, and they are read as a file of them is."""
    path, file = Path(name), engine.folder / f"{name}.rows.parquet"
    _require(path, wanted, rows.column_names)
    _require_cases(path, wanted, rows.column_names)
    pq.write_table(rows.select(list(wanted)), file)
    return replace(_open_parquet(engine, path, name, [file], wanted, parts), files=(path,))


def _open_csv(engine: Engine, path: Path, name: str, wanted: dict[str, str], uses: Sequence[Use]) -> Source:
    header = read_header(path, gzipped=kind_of(path) == ".csv.gz")
    _require(path, wanted, header.names)
    _require_cases(path, wanted, wanted)  # which alone are staged
    numbers, apart = only(uses, *NUMERIC_ROLES), only(uses, "standard")
    parts = separators(uses)
    staged = stage_csv(path, header, list(wanted), engine.folder, name, numbers, apart, parts)
    table = engine.numbered(engine.parquet([staged.texts]), ROW)
    rows = pq.read_metadata(staged.texts).num_rows + len(staged.rejected)
    return Source(
        path, (path,), (0,), rows, table, tuple(staged.rejected), is_text=True, numbers=staged.numbers,
        lists=frozenset(parts),
    )  # fmt: skip


def _require(path: Path, wanted: dict[str, str], have: Iterable[str]) -> None:
    have = list(have)
    faults = [
        f"{use} reads the column {column!r}, which is not there; {did_you_mean(column, have)}"
        for column, use in wanted.items()
        if column not in have
    ]
    if faults:
        raise DataError(f"{path} lacks {len(faults)} of {len(wanted)} columns:\n  " + "\n  ".join(faults))


def _require_cases(path: Path, wanted: Iterable[str], among: Iterable[str]) -> None:
    """Raises DataError for a column that the engine, blind to upper and lower case, takes for another."""
    for column in wanted:
        if alike := [name for name in among if name != column and name.casefold() == column.casefold()]:
            raise DataError(
                f"{path} has the columns {column!r} and {alike[0]!r}, which differ in case only; rename one of them"
            )
