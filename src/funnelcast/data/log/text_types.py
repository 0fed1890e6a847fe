"""Types of the columns of CSVs: whole numbers become integers, columns meant as numbers become numbers, the rest stays
text. Words for missing are null beside numbers alone. One decision per column for all files of a log, so that an id
means the same in each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from funnelcast.data.log.engine import Engine, engine_errors
from funnelcast.data.log.roles import NUMBER_ROLES, NUMERIC_ROLES, Use
from funnelcast.data.log.sources import ROW, Source
from funnelcast.data.texts import MISSING
from funnelcast.errors import DataError

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
    """int64, float64 or string for every column that is text in a CSV, and for what is in lists that were texts. Raises
    DataError for text where numbers are needed."""
    texts = [source for source in sources if source.is_text or source.lists]
    if not texts:
        return {}
    uses = [use for use in uses if use.role != "weights" or use.separator is not None]
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
    """Whether a column is there and has texts of no type: a text each in a CSV, or lists that were texts."""
    if column in source.lists:
        return True
    return source.is_text and column in source.table.columns and bool(source.table[column].type().is_string())


def text_tables(source: Source, columns: list[str]) -> Iterator[tuple[Any, list[str]]]:
    """The columns by the table that has a text of them per row: that of the source, or for lists one of their own."""
    yield source.table, [column for column in columns if column not in source.lists]
    for column in (column for column in columns if column in source.lists):
        yield source.table.select(ROW, **{column: source.table[column].unnest()}), [column]


def as_whole(text: Any) -> Any:
    """The integer that a text is written as (`7`, `-3`, `5.0`), else null (`007`, `5.7`, `1e3`)."""
    value = text.try_cast("int64")
    same = (value.cast("string") == text) | (value.cast("string") + ".0" == text)
    return same.ifelse(value, None)


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
    """A column of texts, or lists of them, as the type that `text_types` decided on."""
    if text.type().is_array():
        return text.map(lambda element: as_type(element, kind))
    return as_whole(text) if kind == "int64" else as_number(text) if kind == "float64" else text


def _contents(engine: Engine, sources: list[Source], roles: dict[str, set[str]]) -> dict[str, _Content]:
    total = dict.fromkeys(roles, _Content())
    for source in sources:
        here = [column for column in total if holds_text(source, column)]
        for column in roles.keys() - here:
            if roles[column] <= NUMERIC_ROLES:  # read as numbers at once
                total[column] += _Content(present=source.rows)
        with engine_errors(source.path):
            for table, columns in text_tables(source, here):
                for column, content in _contents_in(engine, table, columns, roles).items():
                    total[column] += content
    return total


def _contents_in(engine: Engine, table: Any, columns: list[str], roles: dict[str, set[str]]) -> dict[str, _Content]:
    counts = {
        f"{key} {i}": count for i, column in enumerate(columns) for key, count in _counts(table[column], roles[column])
    }
    found = engine.row(counts, table)
    contents = {}
    for i, column in enumerate(columns):
        values = {field.name: found.get(f"{field.name} {i}") for field in fields(_Content)}
        contents[column] = _Content(**{name: value for name, value in values.items() if value is not None})
    return contents


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
    fix = _FIXES.get(use.role, "declare it categorical, or mend the column")
    return f"{use.what}: column {use.column!r} holds text such as {content.example!r}, but numbers are needed; {fix}"


_FIXES = {"label": "write it as 0, 1 or nothing", "weights": "mend the column"}


def _decide(roles: set[str], content: _Content) -> str:
    numbers = content.present - content.missing
    if content.whole == numbers > 0:
        return "int64"
    if roles & NUMBER_ROLES or (roles == {"keep"} and content.decimal == numbers > 0):
        return "float64"
    return "string"
