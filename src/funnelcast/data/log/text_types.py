"""Types of the columns of CSVs: whole numbers become integers, columns meant as numbers become numbers, the rest stays
text. Words for missing are null beside numbers alone. One decision per column for all files of a log, so that an id
means the same in each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import ibis

from funnelcast.data.log.engine import Engine, engine_errors
from funnelcast.data.log.roles import NUMBER_ROLES, NUMERIC_ROLES, Use
from funnelcast.data.log.sources import Source
from funnelcast.errors import DataError

MISSING = ("na", "n/a", "nan", "null", "none")
"""Words that mean a missing number, in any case; in a column with other texts they are texts like any other."""
_MISSING = [(word, None) for word in MISSING]


@dataclass(frozen=True)
class _Content:
    """How many texts of a column are not null, mean missing, are whole, decimal, and no number at all, and one of the
    last; 0 and empty for what its roles do not ask."""

    present: int = 0
    missing: int = 0
    whole: int = 0
    decimal: int = 0
    unreadable: int = 0
    example: str = ""

    def __add__(self, other: _Content) -> _Content:
        return _Content(
            self.present + other.present,
            self.missing + other.missing,
            self.whole + other.whole,
            self.decimal + other.decimal,
            self.unreadable + other.unreadable,
            self.example or other.example,
        )


def text_types(engine: Engine, sources: list[Source], uses: list[Use]) -> dict[str, str]:
    """int64, float64 or string for every column that is text in a CSV. Raises DataError for text where numbers are
    needed."""
    texts = [source for source in sources if source.is_text]
    if not texts:
        return {}
    roles: dict[str, set[str]] = {}
    for use in uses:
        if any(holds_text(source, use.column) for source in texts):
            roles.setdefault(use.column, set()).add(use.role)
    contents = _contents(engine, texts, roles)
    faults = [fault for use in uses if use.column in roles and (fault := _fault(use, contents[use.column]))]
    if faults:
        raise DataError(f"{texts[0].path} cannot be prepared with this schema:\n  " + "\n  ".join(faults))
    return {column: _decide(kinds, contents[column]) for column, kinds in roles.items()}


def holds_text(source: Source, column: str) -> bool:
    """Whether a column is there and text."""
    return column in source.table.columns and bool(source.table[column].type().is_string())


def as_whole(text: Any) -> Any:
    """The integer that a text is written as (`7`, `-3`, `5.0`), else null (`007`, `5.7`, `1e3`)."""
    value = text.try_cast("int64")
    same = (value.cast("string") == text) | (value.cast("string") + ".0" == text)
    return same.ifelse(value, ibis.null("int64"))


def as_number(text: Any) -> Any:
    """The number in a text, with `true` as 1 and `false` as 0, else null."""
    return text.lower().cases(("true", 1.0), ("false", 0.0), *_MISSING, else_=text.try_cast("float64"))


def is_unreadable(text: Any) -> Any:
    """Whether a text is neither a number nor missing."""
    return text.notnull() & ~text.lower().isin(MISSING) & as_number(text).isnull()


def is_no_integer(text: Any) -> Any:
    """Whether a text is neither an integer nor missing."""
    return text.notnull() & ~text.lower().isin(MISSING) & as_whole(text).isnull()


def as_type(text: Any, kind: str) -> Any:
    """A text column as the type that `text_types` decided on."""
    return as_whole(text) if kind == "int64" else as_number(text) if kind == "float64" else text


def _contents(engine: Engine, sources: list[Source], roles: dict[str, set[str]]) -> dict[str, _Content]:
    total = dict.fromkeys(roles, _Content())
    for source in sources:
        here = [column for column in total if holds_text(source, column)]
        counts = {
            f"{key} {i}": count
            for i, column in enumerate(here)
            for key, count in _counts(source.table[column], roles[column])
        }
        for column in roles.keys() - here:
            if roles[column] <= NUMERIC_ROLES:  # read as numbers at once
                total[column] += _Content(present=source.rows)
        with engine_errors(source.path):
            found = engine.row(counts, source.table)
        for i, column in enumerate(here):
            values = {field.name: found.get(f"{field.name} {i}") for field in fields(_Content)}
            total[column] += _Content(**{name: value for name, value in values.items() if value is not None})
    return total


def _counts(text: Any, roles: set[str]) -> Iterator[tuple[str, Any]]:
    unreadable, missing = is_unreadable(text), text.lower().isin(MISSING)
    yield "present", text.count()
    yield "missing", missing.sum()
    yield "whole", as_whole(text).count()
    if roles == {"keep"}:
        yield "decimal", text.try_cast("float64").count(where=~missing)
    if roles & NUMBER_ROLES:
        yield "unreadable", unreadable.sum()
        yield "example", text.min(where=unreadable)


def _fault(use: Use, content: _Content) -> str:
    if use.role not in NUMBER_ROLES or 2 * content.unreadable <= content.present:
        return ""
    fix = "write it as 0, 1 or nothing" if use.role == "label" else "declare it categorical, or mend the column"
    return f"{use.what}: column {use.column!r} holds text such as {content.example!r}, but numbers are needed; {fix}"


def _decide(roles: set[str], content: _Content) -> str:
    numbers = content.present - content.missing
    if content.whole == numbers > 0:
        return "int64"
    if roles & NUMBER_ROLES or (roles == {"keep"} and content.decimal == numbers > 0):
        return "float64"
    return "string"
