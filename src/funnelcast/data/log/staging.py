"""Clean rows on disk: typed columns with part, fault and position of each row; what fit and encode read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from operator import or_
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa

from funnelcast.data.log import splits
from funnelcast.data.log.batches import even, read_arrow, read_batches, write_arrow
from funnelcast.data.log.engine import Engine, engine_errors
from funnelcast.data.log.roles import NUMBER_ROLES, Use, columns, only, type_fault
from funnelcast.data.log.sources import Source
from funnelcast.data.log.text_types import as_type, holds_text, is_unreadable
from funnelcast.data.numeric import LARGEST
from funnelcast.data.vocabulary import whole_below
from funnelcast.errors import DataError
from funnelcast.schema.dataset import Schema, Split
from funnelcast.schema.funnel import Funnel

PART = "__part"
"""train, dev or test."""
FAULT = "__fault"
"""Why a row goes to quarantine; null for a good row."""
INCONSISTENT = "__broken"
"""Whether the labels of a row contradict the funnel."""
TEXT = "__text "
"""Before the name of a column of numbers: the texts of it that are none, null for all others."""


@dataclass(frozen=True)
class Staged:
    """The rows of one source on disk, bad ones included."""

    source: Source
    parts: tuple[str, ...]
    """The parts its rows go to."""
    columns: list[str]
    """Those of the source, in the order of the schema."""
    file: Path
    table: Any
    numbers: Path | None = None
    """An Arrow file with the columns that no query reads, which are not in `table`."""

    def batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """The rows in order, with these columns."""
        own = self.table.columns
        here = read_batches(self.file, [column for column in columns if column in own])
        if self.numbers is None:
            yield from (batch.select(columns) for batch in here)
            return
        for batch, numbers in zip(even(here), read_arrow(self.numbers), strict=True):
            arrays = [(batch if column in own else numbers).column(column) for column in columns]
            yield pa.RecordBatch.from_arrays(arrays, columns)


def stage(
    engine: Engine, source: Source, schema: Schema, part: str | Split, types: dict[str, str], uses: list[Use]
) -> Staged:
    """Type, check and part the rows of a source, and write them down: all in one `part`, or split by a rule; numbers
    that no query needs to a file of their own.

    Raises DataError for a column of a wrong type.
    """
    name = part if isinstance(part, str) else "split"
    with engine_errors(source.path):
        table = _typed(source, types, uses)
        here = [use for use in uses if use.column in table.columns]
        faults = [fault for use in here if (fault := type_fault(use, table[use.column].type()))]
        if faults:
            raise DataError(f"{source.path} does not fit the schema:\n  " + "\n  ".join(dict.fromkeys(faults)))
        numbers = source.numbers
        if numbers is None and (apart := only(here, "standard")):
            numbers = engine.folder / f"{name}.numbers.arrow"
            write_arrow(numbers, engine.stream(table.select(apart)))
            table, here = table.drop(*apart), [use for use in here if use.column not in apart]
        table = table.mutate(
            **{FAULT: _first([(table[FAULT].notnull(), table[FAULT]), *_checks(table, here, schema.split)])},
            **{INCONSISTENT: _inconsistent(table, schema.funnel)},
        )
        table = table.mutate(**{PART: _part(engine, table, part)})
        file = engine.save(table, name)
    return Staged(source, _parts(part), list(columns(uses)), file, engine.parquet([file]), numbers)


def _parts(part: str | Split) -> tuple[str, ...]:
    if isinstance(part, str):
        return (part,)
    return ("train", *(["dev"] if part.dev else []), *(["test"] if part.test else []))


def _typed(source: Source, types: dict[str, str], uses: list[Use]) -> Any:
    """The source with its columns typed, and the first number that cannot be read as `FAULT`."""
    table = source.table
    types = {column: kind for column, kind in types.items() if holds_text(source, column)}
    numbers = dict.fromkeys(u.column for u in uses if u.role in NUMBER_ROLES and types.get(u.column) == "float64")
    unreadable = {column: _any(table[column], is_unreadable) for column in numbers}
    return table.mutate(
        **{column: as_type(table[column], kind) for column, kind in types.items()},
        **{FAULT: _first([(found, f"{column} is not a number") for column, found in unreadable.items()])},
        **{TEXT + column: _first([(found, table[column].cast("string"))]) for column, found in unreadable.items()},
    )


def _first(checks: list[tuple[Any, Any]]) -> Any:
    """The reason of the first check that a row fails, null for none."""
    return ibis.cases(*checks, else_=ibis.null("string")) if checks else ibis.null("string")


def _checks(table: Any, uses: list[Use], split: Split) -> Iterator[tuple[Any, str]]:
    for use in uses:
        column = table[use.column]
        if _is_empty(column):
            if use.role in ("weight", "split"):
                yield ibis.literal(True), f"{use.column} is missing"
        elif use.role == "label":
            yield ~_number(column).isin([0.0, 1.0]), f"{use.column} is neither 0 nor 1"
        elif use.role == "weight":
            yield _number(column).isnull(), f"{use.column} is missing"
            yield (_number(column) < 0) | (_number(column) > LARGEST), f"{use.column} is negative or infinite"
        elif use.role in ("categorical", "multi", "sequence"):
            yield from _no_ids(column, use.column)
        elif use.role == "split":
            yield column.isnull(), f"{use.column} is missing"
            if split.by == "time":
                yield splits.as_time(column).isnull(), f"{use.column} is no time like 2024-02-01 10:00:00 or a number"
    yield from _unequal_lists(table, uses)


def _no_ids(column: Any, name: str) -> Iterator[tuple[Any, str]]:
    """Numbers, in a column or its lists, that int64 cannot hold or that are not what they were."""
    kind = column.type().value_type if column.type().is_array() else column.type()
    if kind.is_floating():
        limit = whole_below(kind.nbytes)
        yield (
            _any(column, lambda id_: ~id_.isnan() & (id_ % 1 != 0)),
            f"{name} is no whole number: declare it numeric, or cast it to string",
        )
        yield (
            _any(column, lambda id_: ~id_.isnan() & (id_.abs() >= limit)),
            f"{name} is a float of {limit:.0f} or more, where ids run together: cast it to int64 or string",
        )
    elif kind.is_uint64():
        yield _any(column, lambda id_: id_ > 2**63 - 1), f"{name} is 2^63 or more: cast it to string"


def _any(column: Any, test: Callable[[Any], Any]) -> Any:
    """Whether the value in a row passes, or any in its list."""
    return column.filter(test).length() > 0 if column.type().is_array() else test(column)


def _unequal_lists(table: Any, uses: list[Use]) -> Iterator[tuple[Any, str]]:
    for ids, weights in pairwise(uses):  # the weights of a feature come right after its ids
        if weights.role == "weights":
            lengths = [_length(table[use.column]) for use in (ids, weights)]
            yield lengths[0] != lengths[1], f"{weights.column} differs in length from its ids"


def _is_empty(column: Any) -> bool:
    """Whether it is null in every row, by its type."""
    return bool(column.type().is_null() or column.type().is_unknown())


def _length(column: Any) -> Any:
    """Of the list in each row."""
    return ibis.literal(0) if _is_empty(column) else column.length().fill_null(0)


def _number(column: Any) -> Any:
    """A column as float64, null for NaN."""
    if column.type().is_boolean():
        column = column.cast("int8")
    value = column.cast("float64")
    return value.isnan().ifelse(ibis.null("float64"), value)


def _inconsistent(table: Any, funnel: Funnel) -> Any:
    columns = {step: table[column] for step, column in enumerate(funnel.label_columns)}
    labels = {step: _number(column) for step, column in columns.items() if not _is_empty(column)}
    contradictions = [
        ((labels[step] == 1) & (labels[before] == 0)).fill_null(False)
        for step in labels
        for before in funnel.before(step)
        if before in labels
    ]
    return reduce(or_, contradictions, ibis.literal(False))


def _part(engine: Engine, table: Any, part: str | Split) -> Any:
    if isinstance(part, str):
        return ibis.literal(part)
    good = table.filter(table[FAULT].isnull())
    return splits.assign(engine, table, good, part)
