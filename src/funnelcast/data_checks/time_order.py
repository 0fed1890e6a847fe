"""The time of every row; test rows earlier than training rows, and numbers that were made of later rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from funnelcast.data.encoder import Encoder
from funnelcast.data.numeric import Standard
from funnelcast.data.table import Table
from funnelcast.data_checks.column import Column
from funnelcast.data_checks.finding import TIME, Finding
from funnelcast.data_checks.formatting import percent

LEAST = 0.01
"""Share of the rows that is reported."""
TRACKS = 0.9
"""Correlation with the time of its row above which a number is taken for a time."""
ROUNDING = 1e-5
"""Of the span of the times, as tables hold scaled numbers in 32 bits."""


def time_order(times: Times, part: str) -> Finding | None:
    """Rows of a part that are earlier than the last training row."""
    train, there = (own[~np.isnan(own)] for own in (times.by_part["train"], times.by_part[part]))
    if not len(train) or not len(there):
        return None
    early, late = float((there < train.max()).mean()), float((train > there.min()).mean())
    if early < LEAST:
        return None
    return Finding(
        TIME,
        part,
        "warning",
        f"{percent(early)} of the {len(there):,} {part} rows are earlier than the last training row, "
        f"{times.column} {times.text(train.max())}, and {percent(late)} of the training rows are later than the "
        f"first {part} row, {times.text(there.min())}: the model learns from the future of the rows it is judged on",
        f'split by time: [split] by = "time", column = "{times.column}"',
    )


def of_the_future(column: Column, encoder: Encoder, times: Times) -> Finding | None:
    """A number that goes along with the time of its row and is later in some of the rows; what is later in all of them,
    as the end of an offer, may well be known before.
    """
    transform = encoder.numbers.get(column.name)
    if not times.is_number or not isinstance(transform, Standard):
        return None
    time = times.by_part["train"][column.sample.rows]
    known = (column.raw != 0) & ~np.isnan(time)  # 0 is missing
    time, own = time[known], column.raw[known].astype(np.float64) * transform.std + transform.mean
    if len(time) < 20 or not time.std() or not own.std() or np.corrcoef(time, own)[0, 1] < TRACKS:
        return None
    later = float((own > time + ROUNDING * np.ptp(time)).mean())
    if not LEAST <= later < 0.999:
        return None
    return Finding(
        TIME,
        column.name,
        "warning",
        f"it goes along with {times.column}, the time of the row, and is later in {percent(later)} of "
        f"{len(time):,} training rows: it seems to be made of what came after",
        f"make it of what was known at {times.column}, or take it out of [features]",
    )


NAMES = ("time", "timestamp", "datetime", "date", "ts", "event_time")
"""What a kept column of numbers or texts is called that is taken for the time of its row."""


@dataclass(frozen=True)
class Times:
    """The times of the rows of some parts, from one column."""

    column: str
    kind: pa.DataType
    by_part: dict[str, NDArray[np.float64]]
    """(N,) each; NaN where it is missing. Numbers as they are, others in microseconds since 1970, UTC."""

    @property
    def is_number(self) -> bool:
        return _is_number(self.kind)

    def text(self, time: float) -> str:
        """As it is read."""
        if self.is_number:
            return f"{time:.10g}"
        return str(np.datetime64(int(time), "us").astype("datetime64[s]")).replace("T", " ").removesuffix(" 00:00:00")


def find_times(table: Table, parts: list[str]) -> Times | None:
    """From the column that the table was split by, else from one that is a time by its type or its name; none where
    none is kept and can be read. The parts are those that have rows, checked before.
    """
    path = table.folder / parts[0] / "side.parquet"
    kept = pq.read_schema(path) if path.is_file() else pa.schema([])
    for column in _candidates(table, kept):
        try:
            by_part = {part: _numbers(_read(table.folder / part, column)) for part in parts}
        except (pa.ArrowException, ValueError):
            continue
        return Times(column, kept.field(column).type, by_part)
    return None


def _candidates(table: Table, kept: pa.Schema) -> Iterator[str]:
    split = table.schema.split
    if split.by == "time" and split.column in kept.names:
        yield str(split.column)
    yield from (field.name for field in kept if _is_temporal(field.type))
    by_name = [field.name for name in NAMES for field in kept if field.name.casefold() == name]
    yield from (name for name in by_name if not _is_temporal(kept.field(name).type))


def _read(folder: Path, column: str) -> pa.ChunkedArray:
    return pq.read_table(folder / "side.parquet", columns=[column])[column]


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """(N,). Raises ArrowException or ValueError for what is no time."""
    if not _is_number(column.type):
        column = _as_times(column).cast(pa.int64())
    return np.asarray(pc.fill_null(column.cast(pa.float64(), safe=False), np.nan).to_numpy())


def _as_times(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """As timestamps in UTC; texts in ISO 8601, all with a zone or all without."""
    kind = pa.timestamp("us", "UTC")
    if _is_temporal(column.type):
        return column.cast(kind if getattr(column.type, "tz", None) else pa.timestamp("us"), safe=False)
    try:
        return column.cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        return column.cast(kind)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_temporal(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))
