"""Fits the encoder on training rows: vocabularies by counting, numbers by their moments or quantiles."""

from __future__ import annotations

from typing import Any

import ibis
import pyarrow as pa

from funnelcast.data.encoder import Encoder, as_float
from funnelcast.data.log.audit import usable, usable_rows
from funnelcast.data.log.engine import Engine, engine_errors
from funnelcast.data.log.moments import Moments
from funnelcast.data.log.quantiles import bin_edges, piecewise_edges
from funnelcast.data.log.splits import value_counts
from funnelcast.data.log.staging import FAULT, INCONSISTENT, PART, Staged
from funnelcast.data.numeric import Bins, Piecewise, Standard
from funnelcast.data.progress import Progress, silent
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.errors import DataError
from funnelcast.schema.dataset import Schema
from funnelcast.schema.features import IdFeature, Numeric

_KINDS: dict[str, type[Standard] | type[Bins]] = {"standard": Standard, "piecewise": Piecewise, "bins": Bins}
"""By the transform that a schema names."""


def fit_encoder(
    engine: Engine,
    staged: Staged,
    schema: Schema,
    progress: Progress = silent,
    init: Encoder | None = None,
) -> tuple[Encoder, dict[str, int]]:
    """The encoder of the training rows of a source; or `init`, with the same numbers and new ids after its own. Beside
    it, for the summary: the size of each vocabulary, and the ids below its `min_count` that were left out.

    Raises DataError where a vocabulary would mix integers and strings, or `init` is of another schema.
    """
    members, rows = _members(schema), usable(staged.table, schema, "train")
    numeric = [name for name, feature in schema.features.items() if feature.kind == "numeric"]
    total = len(members) + len(numeric)
    vocabularies: dict[str, Vocabulary] = {}
    counts: dict[str, int] = {}
    for name, features in members.items():
        progress("fit", len(vocabularies), total, "features", name)
        found, rare = _fit_vocabulary(engine, rows, schema, name, features)
        vocabularies[name] = found if init is None else _grown(init, name, found)
        counts |= {f"vocabulary {name}": len(vocabularies[name])} | ({f"rare ids of {name}": rare} if rare else {})
    progress("fit", len(vocabularies), total, "features", "numbers")
    moments = _moments(staged, schema) if init is None else {}
    numbers: dict[str, Standard | Bins] = {}
    for name in numeric:
        progress("fit", len(vocabularies) + len(numbers), total, "features", name)
        numbers[name] = _fit_number(engine, rows, schema, name, moments) if init is None else _kept(init, schema, name)
    progress("fit", total, total, "features")
    return Encoder(schema, vocabularies, numbers), counts


def _members(schema: Schema) -> dict[str, list[str]]:
    """The id features of each vocabulary."""
    members: dict[str, list[str]] = {}
    for name, feature in schema.features.items():
        if isinstance(feature, IdFeature):
            members.setdefault(schema.vocabulary(name), []).append(name)
    return members


def _fit_vocabulary(
    engine: Engine, rows: Any, schema: Schema, name: str, features: list[str]
) -> tuple[Vocabulary, int]:
    """The vocabulary, and how many ids were too rare for it."""
    columns = list(dict.fromkeys(schema.column(feature) for feature in features))
    values = [value for column in columns if (value := _ids(rows[column])) is not None]
    kinds = {value.type().copy(nullable=True) for value in values}
    if len(kinds) > 1:
        kind = {column: _type_of(rows[column]) for column in columns}
        raise DataError(
            f"vocabulary {name!r} is shared by columns of integers and of strings: "
            + ", ".join(f"{column} ({'strings' if t.is_string() else 'integers'})" for column, t in kind.items())
            + "; cast them to one type, or give each its own vocabulary"
        )
    if not values:
        return Vocabulary(pa.array([], pa.string())), 0
    with engine_errors(f"vocabulary {name!r}"):
        tables = [value.name("value").as_table() for value in values]
        table = ibis.union(*tables) if len(tables) > 1 else tables[0]
        counts = value_counts(table.value)
        minimum = schema.features[features[0]].min_count  # type: ignore[union-attr]
        if minimum > 1:
            counts = engine.parquet([engine.save(counts, "counts")])
        found = engine.fetch(counts.filter(counts.n >= minimum))
        rare = int(engine.fetch(counts.count()).as_py()) - len(found) if minimum > 1 else 0
    return Vocabulary.fit(found["value"].combine_chunks(), found["n"].to_numpy(), minimum), rare


def _type_of(column: Any) -> Any:
    kind = column.type()
    return kind.value_type if kind.is_array() else kind


def _ids(column: Any) -> Any | None:
    """The ids in a column or in its lists: int64 or string; None for a column without values."""
    kind = _type_of(column)
    if kind.is_null() or kind.is_unknown():
        return None
    if column.type().is_array():
        column = column.unnest()
    if kind.is_floating():
        column = column.isnan().ifelse(ibis.null(kind), column)
    return column if kind.is_string() else column.cast("int64")


def _moments(staged: Staged, schema: Schema) -> dict[str, Moments]:
    """Those of the columns that are standardised, of training rows, all in one pass."""
    numeric = (name for name, feature in schema.features.items() if feature.kind == "numeric")
    found = {schema.column(name): Moments() for name in numeric if _kind(schema, name) is not Bins}
    for batch in staged.batches([*found, FAULT, PART, INCONSISTENT]) if found else ():
        rows = usable_rows(batch, schema, "train")
        for column, moments in found.items():
            moments.add(as_float(batch.column(column), column), rows)
    return found


def _kind(schema: Schema, name: str) -> type[Standard] | type[Bins]:
    feature = schema.features[name]
    assert isinstance(feature, Numeric)
    return _KINDS[feature.transform]


def _fit_number(engine: Engine, rows: Any, schema: Schema, name: str, moments: dict[str, Moments]) -> Standard | Bins:
    feature, column, kind = schema.features[name], schema.column(name), _kind(schema, name)
    assert isinstance(feature, Numeric)
    if kind is not Standard:
        with engine_errors(f"feature {name!r}"):
            find = bin_edges if kind is Bins else piecewise_edges
            edges = tuple(find(engine, finite(rows[column]), feature.bins))
    if kind is Bins:
        return Bins(edges=edges)
    try:
        standard = moments[column].standard()
    except DataError as error:
        raise DataError(f"feature {name!r}: {error}") from None
    return standard if kind is Standard else Piecewise(mean=standard.mean, std=standard.std, edges=edges)


def _grown(init: Encoder, name: str, found: Vocabulary) -> Vocabulary:
    known = init.vocabularies.get(name)
    if known is None:
        raise DataError(f"vocabulary {name!r} is not in the bundle; use the bundle's schema")
    if not (found.is_empty or known.is_empty) and found.is_integer != known.is_integer:
        kinds = ("integers", "strings") if found.is_integer else ("strings", "integers")
        raise DataError(f"vocabulary {name!r} has {kinds[0]} in the log, {kinds[1]} in the bundle; convert the column")
    return known.grown(found.values)


def _kept(init: Encoder, schema: Schema, name: str) -> Standard | Bins:
    found, wanted = init.numbers.get(name), _kind(schema, name)
    if type(found) is wanted:
        return found
    has = "no such number" if found is None else f"it as {type(found).__name__.lower()}"
    raise DataError(f"feature {name!r} is {wanted.__name__.lower()}, the bundle has {has}; use the bundle's schema")


def finite(column: Any) -> Any:
    """A column of numbers as float64, null where it is not finite."""
    if column.type().is_boolean():
        column = column.cast("int8")
    value = column.try_cast("float64") if column.type().is_string() else column.cast("float64")
    return (value.isnan() | value.isinf()).ifelse(ibis.null("float64"), value)
