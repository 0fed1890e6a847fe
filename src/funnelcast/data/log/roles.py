"""What each raw column is for, and whether it holds the kind of values that needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from funnelcast.schema.dataset import Schema

NUMERIC_ROLES = frozenset({"standard", "piecewise", "bins"})
NUMBER_ROLES = NUMERIC_ROLES | {"label", "weight", "weights"}


@dataclass(frozen=True)
class Use:
    """One use of a column. Roles: label, weight, keep, split, weights; of a number its transform, standard or bins; of
    another feature its kind, categorical, multi or sequence."""

    column: str
    role: str
    what: str
    """In words, e.g. `feature 'age'`."""
    separator: str | None = None
    """What parts the elements of its lists where they are texts."""


def uses(schema: Schema, *, split: bool) -> Iterator[Use]:
    """Every use of every column; `split`: whether rows are to be split by a column."""
    for name, feature in schema.features.items():
        role = feature.transform if feature.kind == "numeric" else feature.kind
        separator = getattr(feature, "separator", None)
        yield Use(schema.column(name), role, f"feature {name!r}", separator)
        if feature.kind == "multi" and feature.weights:
            yield Use(feature.weights, "weights", f"the weights of feature {name!r}", separator)
    for step, column in zip(schema.funnel.names, schema.funnel.label_columns, strict=True):
        yield Use(column, "label", f"the label of step {step!r}")
    if schema.weight:
        yield Use(schema.weight, "weight", "the weight")
    for column in schema.keep:
        yield Use(column, "keep", "`keep`")
    if split and schema.split.column:
        yield Use(schema.split.column, "split", f"the split by {schema.split.by}")


def columns(uses: Iterable[Use]) -> dict[str, str]:
    """Every column, with the first use of it in words."""
    found: dict[str, str] = {}
    for use in uses:
        found.setdefault(use.column, use.what)
    return found


def separators(uses: Iterable[Use]) -> dict[str, str]:
    """What parts the lists in the columns that have them as texts."""
    return {use.column: use.separator for use in uses if use.separator is not None}


def only(uses: Iterable[Use], *roles: str) -> list[str]:
    """The columns that have no roles but these."""
    uses = list(uses)
    others = {use.column for use in uses if use.role not in roles}
    return [column for column in columns(uses) if column not in others]


def type_fault(use: Use, kind: Any) -> str:
    """What is wrong with a column of Ibis type `kind` for a use; empty where nothing is."""
    if kind.is_null() or kind.is_unknown() or use.role == "keep":
        return ""
    problem = _PROBLEMS[use.role](kind)
    return f"{use.what}: column {use.column!r} holds {_in_words(kind)}, but {problem}" if problem else ""


def _is_number(kind: Any) -> bool:
    return bool(kind.is_numeric() or kind.is_boolean())


def _is_id(kind: Any) -> bool:
    return bool(kind.is_integer() or kind.is_floating() or kind.is_string() or kind.is_boolean())


def _number_problem(kind: Any) -> str:
    return "" if _is_number(kind) else "numbers are needed; declare it categorical, or convert the column"


def _label_problem(kind: Any) -> str:
    return "" if _is_number(kind) else "a label is 0, 1 or null; convert the column"


def _id_problem(kind: Any) -> str:
    if kind.is_array():
        return "a categorical feature has one id per row; declare it kind = 'multi' or 'sequence'"
    return "" if _is_id(kind) else "ids are integers or strings; cast the column to one of them"


_LISTS = 'give lists, or texts and what parts them, as separator = "|"'


def _list_problem(kind: Any) -> str:
    if not kind.is_array():
        return f"a list per row is needed; {_LISTS}, or declare it kind = 'categorical'"
    return "" if _is_id(kind.value_type) or kind.value_type.is_null() else "the ids in a list are integers or strings"


def _weights_problem(kind: Any) -> str:
    return "" if kind.is_array() and _is_number(kind.value_type) else f"a list of numbers per row is needed; {_LISTS}"


def _split_problem(kind: Any) -> str:
    fits = kind.is_temporal() or kind.is_numeric() or kind.is_string() or kind.is_boolean()
    return "" if fits else "a key or time to split by is a number, a string or a time"


def _in_words(kind: Any) -> str:
    return "text" if kind.is_string() else "lists" if kind.is_array() else str(kind)


_PROBLEMS = {
    "label": _label_problem,
    "weight": _number_problem,
    "standard": _number_problem,
    "piecewise": _number_problem,
    "bins": _number_problem,
    "categorical": _id_problem,
    "multi": _list_problem,
    "sequence": _list_problem,
    "weights": _weights_problem,
    "split": _split_problem,
}
