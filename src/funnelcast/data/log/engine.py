"""The query engine: Ibis on DuckDB. It reads, joins and counts; it never encodes."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from funnelcast.errors import DataError

MEMORY = "2GB"
"""What the engine may hold before it spills to its folder."""


class Engine:
    """One connection of its own, working in `folder`: spills and staged files lie there."""

    def __init__(self, folder: Path) -> None:
        import ibis  # half a second, of which a prediction of Parquet has no need

        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.con = ibis.duckdb.connect(
            temp_directory=str(folder / "spill"), memory_limit=MEMORY, preserve_insertion_order=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.con.disconnect()

    def parquet(self, files: list[Path]) -> Any:
        """The rows of Parquet files, one file after the other."""
        return self.con.read_parquet([str(file) for file in files])

    def numbered(self, table: Any, column: str) -> Any:
        """The rows with a column of their numbers, from 0."""
        import ibis

        return table.mutate(**{column: ibis.row_number()})

    def fetch(self, expression: Any) -> pa.Table:
        """A small result."""
        return self.con.to_pyarrow(expression)

    def row(self, expressions: dict[str, Any], table: Any) -> dict[str, Any]:
        """The aggregates of a table, by name; empty for none."""
        return dict(self.fetch(table.aggregate(**expressions)).to_pylist()[0]) if expressions else {}

    def save(self, expression: Any, name: str) -> Path:
        """Write a result of any size, in its order, to `folder/NAME.parquet`."""
        path = self.folder / f"{name}.parquet"
        self.con.to_parquet(expression, path)
        return path

    def stream(self, expression: Any) -> pa.RecordBatchReader:
        """A result of any size, in its order, batch by batch; until the last one nothing else is asked of the engine.

        Types are Arrow's: a time with a zone comes in that of this machine, where a saved one is in UTC.
        """
        return pa.RecordBatchReader.from_stream(self.con.con.sql(self.con.compile(expression)))


@contextmanager
def engine_errors(what: object) -> Iterator[None]:
    """Raises DataError about `what` for what engine and file formats raise."""
    try:
        yield
    except _raised() as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DataError(f"{what} cannot be read: {reason}") from None


def _raised() -> tuple[type[Exception], ...]:
    """An engine that is not loaded has raised nothing."""
    of_formats = pa.ArrowException, OSError, EOFError, zlib.error
    if "ibis" not in sys.modules:
        return of_formats
    import duckdb
    from ibis.common.exceptions import IbisError

    return duckdb.Error, IbisError, *of_formats
