"""Reading the files of a log of rows: whole requests, one after the other, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from funnelcast.data.arrow import numbers_of
from funnelcast.errors import InputError
from funnelcast.server.logged_columns import KINDS, PRECISION, REQUEST, ROWS, VERSION
from funnelcast.serving.frames import one_batch

BATCH: Final = 8192
"""Rows that are read at once."""
_REQUIRED: Final = (REQUEST, ROWS, VERSION, PRECISION)
"""Columns without nulls."""
_MADE_BY: Final = "funnelcast serve BUNDLE --log-rows FOLDER"


class LoggedFile(NamedTuple):
    """A file of a log."""

    path: Path
    rows: int
    columns: list[str]
    versions: set[str]
    """Fingerprints of the bundles that answered."""


class LoggedRequest(NamedTuple):
    """All rows of a request."""

    path: Path
    first: int
    """Row of the file, from 0."""
    rows: pa.RecordBatch


def logged_files(paths: Iterable[Path]) -> list[LoggedFile]:
    """The files of a log, of which those are given or the folders that they are in; what a server still writes is not
    among them. Raises InputError for what is no whole file of a log, and where there are no rows."""
    paths = list(paths)
    found = [_checked(path) for place in paths for path in _paths(place)]
    if not sum(file.rows for file in found):
        names = ", ".join(map(str, paths))
        raise InputError(
            f"{names} has no logged rows; a server writes them --log-seconds after a request that it logs, or when it "
            f"is stopped: {_MADE_BY}"
        )
    return found


def _paths(place: Path) -> list[Path]:
    if place.is_dir():
        return sorted(path for path in place.rglob("*.parquet") if not path.name.startswith("."))
    if place.is_file():
        return [place]
    raise InputError(f"{place} is not there; give a file or a folder of {_MADE_BY}")


def _checked(path: Path) -> LoggedFile:
    with _opened(path) as file:
        schema = file.schema_arrow
        for name, kind in KINDS.items():
            if name not in schema.names:
                raise InputError(
                    f"{path} lacks the column {name!r}, so it is no log of rows; make one with: {_MADE_BY}"
                )
            if schema.field(name).type != kind:
                raise InputError(f"{path}: {name!r} holds {schema.field(name).type}, not {kind}; give files as written")
        fixed = file.read(list(_REQUIRED))
    for name in _REQUIRED:
        if missing := fixed[name].null_count:
            raise InputError(f"{path}: {name!r} is missing in {missing} rows; give files as the server wrote them")
    return LoggedFile(path, len(fixed), schema.names, set(pc.unique(fixed[VERSION]).to_pylist()))


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path} is no whole Parquet file ({error}); take it away, or restore it from a copy"
        ) from None


def requests_of(file: LoggedFile) -> Iterator[LoggedRequest]:
    """Raises InputError where rows of a request are missing, or not one after the other."""
    with _opened(file.path) as opened:
        first, left = 0, opened.schema_arrow.empty_table()
        for batch in opened.iter_batches(BATCH):
            table = pa.concat_tables([left, pa.Table.from_batches([batch])])
            starts = _starts(table)
            for start, stop in pairwise(starts):
                yield _whole(file.path, first + start, table.slice(start, stop - start))
            first, left = first + starts[-1], table.slice(starts[-1])
        if len(left):
            yield _whole(file.path, first, left)


def _starts(table: pa.Table) -> list[int]:
    """Where requests begin."""
    names = table[REQUEST].combine_chunks()
    is_other = pc.not_equal(names[1:], names[:-1])
    return [0, *(1 + np.flatnonzero(is_other.to_numpy(zero_copy_only=False))).tolist()]


def _whole(path: Path, first: int, table: pa.Table) -> LoggedRequest:
    rows, wanted = one_batch(table), table[ROWS][0].as_py()
    if rows.num_rows != wanted or (numbers_of(rows.column(ROWS)) != wanted).any():
        raise InputError(
            f"{path}: from row {first} there are {rows.num_rows} rows of the request "
            f"{rows.column(REQUEST)[0].as_py()!r}, which had {wanted}; give files as the server wrote them, since "
            "a request is scored as a whole"
        )
    return LoggedRequest(path, first, rows)
