"""The fitted encoder: Arrow rows to `Columns`. Prepare, predict and serve all go through it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from funnelcast.data.arrow import numbers_of
from funnelcast.data.columns import Columns, Ragged
from funnelcast.data.numeric import LARGEST, Bins, Piecewise, Standard
from funnelcast.data.texts import as_numbers, is_text, split
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.errors import InputError, did_you_mean
from funnelcast.schema.dataset import Schema
from funnelcast.schema.features import MultiValued, Sequence

Arrays = dict[str, pa.Array]
"""Columns by name."""


@dataclass(frozen=True)
class ListSpec:
    """What a model must know of a feature with a list of ids per row."""

    name: str
    vocabulary: str
    kind: Literal["multi", "sequence"]
    weighted: bool = False
    """Whether every id has a weight."""
    max_length: int = 0
    """Ids of the longest list of a sequence; a multi-valued feature has no limit."""


@dataclass(frozen=True)
class InputSpec:
    """What a model must know of its input."""

    fields: tuple[tuple[str, str], ...]
    """(feature, vocabulary) of each id column, in column order."""
    sizes: dict[str, int]
    """Number of ids of each vocabulary, including 0."""
    numeric: tuple[str, ...]
    """The numeric features, in column order."""
    lists: tuple[ListSpec, ...] = ()
    """The multi-valued features and the sequences."""
    bin_edges: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """By numeric feature that a network shall read by a piecewise linear encoding: the edges of its bins, ascending, in
    scaled numbers."""

    @property
    def vocabularies(self) -> tuple[str, ...]:
        """Those that a field or a list uses, in the order of their first use."""
        used = [vocabulary for _, vocabulary in self.fields] + [each.vocabulary for each in self.lists]
        return tuple(dict.fromkeys(used))


@dataclass(frozen=True)
class Encoder:
    """A schema with everything that was fitted on its training rows."""

    schema: Schema
    vocabularies: dict[str, Vocabulary]
    numbers: dict[str, Standard | Bins]  # by numeric feature

    @cached_property
    def inputs(self) -> InputSpec:
        fields = [name for name in self.schema.features if self._is_field(name)]
        bins = {name: len(t) for name, t in self.numbers.items() if isinstance(t, Bins)}
        return InputSpec(
            fields=tuple((name, self.schema.vocabulary(name)) for name in fields),
            sizes={name: len(vocabulary) for name, vocabulary in self.vocabularies.items()} | bins,
            numeric=tuple(name for name, transform in self.numbers.items() if isinstance(transform, Standard)),
            lists=tuple(self._list_spec(name) for name in self.schema.lists),
            bin_edges={name: t.bin_edges for name, t in self.numbers.items() if isinstance(t, Piecewise)},
        )

    def _list_spec(self, name: str) -> ListSpec:
        feature, vocabulary = self.schema.features[name], self.schema.vocabulary(name)
        if feature.kind == "sequence":
            return ListSpec(name, vocabulary, "sequence", max_length=feature.max_length)
        return ListSpec(name, vocabulary, "multi", weighted=feature.kind == "multi" and feature.weights is not None)

    def _is_field(self, name: str) -> bool:
        return self.schema.features[name].kind == "categorical" or isinstance(self.numbers.get(name), Bins)

    def encode(self, rows: pa.RecordBatch, shared: pa.RecordBatch | None = None) -> Columns:
        """Features of raw rows, without labels. `shared`: one row of other columns, which hold for all rows and are
        encoded once. Raises InputError for a missing column or a wrong type."""
        own, of_all = _by_name(rows), {} if shared is None else _by_name(shared)
        self._require_columns([*own, *of_all])
        arrays = {name: of_all if column in of_all else own for name, column in self._columns.items()}
        ids = np.empty((len(self.inputs.fields), rows.num_rows), np.int32)  # a column at a time, then transposed
        for i, (name, _) in enumerate(self.inputs.fields):
            ids[i] = self._field(name, arrays[name])
        numeric = np.empty((len(self.inputs.numeric), rows.num_rows), np.float32)
        for i, name in enumerate(self.inputs.numeric):
            numeric[i] = self.numbers[name](self._values(name, arrays[name]))
        ragged = self._ragged(arrays)
        same = np.zeros(rows.num_rows, np.int32)
        ragged |= {name: replace(lists, index=same) for name, lists in ragged.items() if arrays[name] is of_all}
        return Columns(np.ascontiguousarray(ids.T), np.ascontiguousarray(numeric.T), ragged)

    def unknown(self, rows: pa.RecordBatch) -> dict[str, pa.Array]:
        """By vocabulary, the values in raw rows that it does not know, distinct and ascending; not of a vocabulary that
        knows none at all. Raises InputError as `encode` does."""
        self._require_columns(rows.schema.names)
        found: dict[str, pa.Array] = {}
        for name in self.schema.features:
            vocabulary = self.vocabularies.get(self.schema.vocabulary(name))
            if vocabulary is not None and not vocabulary.is_empty:
                values = self._unknown(name, vocabulary, rows)
                earlier = found.get(self.schema.vocabulary(name), values[:0])
                found[self.schema.vocabulary(name)] = pc.unique(pa.concat_arrays([earlier, values]))
        return {name: values.take(pc.sort_indices(values)) for name, values in found.items()}

    def _unknown(self, name: str, vocabulary: Vocabulary, rows: pa.RecordBatch) -> pa.Array:
        feature, column = self.schema.features[name], self._columns[name]
        raw = rows.column(column)
        if feature.kind == "categorical" or feature.kind == "numeric":
            return vocabulary.unknown(raw, column)
        values, _ = flat_lists(_as_lists(raw, column, feature.separator), column)
        return (vocabulary.unknown_of_texts if _is_text(raw) else vocabulary.unknown)(values, column)

    @cached_property
    def _columns(self) -> dict[str, str]:
        """By feature."""
        return {name: self.schema.column(name) for name in self.schema.features}

    @cached_property
    def _wanted(self) -> list[str]:
        """All columns."""
        weights = [f.weights for f in self.schema.features.values() if f.kind == "multi" and f.weights]
        return list(dict.fromkeys([*self._columns.values(), *weights]))

    def _require_columns(self, have: list[str]) -> None:
        wanted, there = self._wanted, set(have)
        missing = [name for name in wanted if name not in there]
        if missing:
            near = {name: did_you_mean(name, [other for other in have if other not in wanted]) for name in missing[:8]}
            hints = [f"for {name!r}, {hint}" for name, hint in near.items() if hint.startswith("did")]
            raise InputError(
                f"the rows lack {len(missing)} of the model's {len(wanted)} columns: {', '.join(near)}; "
                + ("; ".join(hints) or "add them, null where unknown")
            )

    def _field(self, name: str, rows: Arrays) -> NDArray[np.int32]:
        if self.schema.features[name].kind == "numeric":
            binned: NDArray[np.int32] = self.numbers[name](self._values(name, rows)).astype(np.int32)
            return binned
        column = self._columns[name]
        return self.vocabularies[self.schema.vocabulary(name)].ids(rows[column], column)

    def _values(self, name: str, rows: Arrays) -> NDArray[np.float64]:
        """Numbers of a feature, NaN where they are missing."""
        column = self._columns[name]
        return as_float(rows[column], column)

    def _ragged(self, arrays: dict[str, Arrays]) -> dict[str, Ragged]:
        return {
            name: self._lists(name, feature, arrays[name])
            for name, feature in self.schema.features.items()
            if feature.kind == "multi" or feature.kind == "sequence"
        }

    def _lists(self, name: str, feature: MultiValued | Sequence, rows: Arrays) -> Ragged:
        column = self._columns[name]
        raw, vocabulary = rows[column], self.vocabularies[self.schema.vocabulary(name)]
        values, offsets = flat_lists(_as_lists(raw, column, feature.separator), column)
        ids = (vocabulary.ids_of_texts if _is_text(raw) else vocabulary.ids)(values, column)
        if feature.kind == "sequence":
            return _newest(Ragged(offsets, ids), feature.max_length)
        if feature.weights is None:
            return Ragged(offsets, ids)
        if feature.weights not in rows:
            raise InputError(
                f"{column!r} and its weights {feature.weights!r} must stand together, in all rows or shared"
            )
        raw = rows[feature.weights]
        weights, weight_offsets = flat_lists(_as_lists(raw, feature.weights, feature.separator), feature.weights)
        if not np.array_equal(offsets, weight_offsets):
            row = int(np.flatnonzero(np.diff(offsets) != np.diff(weight_offsets))[0])
            raise InputError(f"row {row}: {column!r} and its weights {feature.weights!r} differ in length")
        weights = as_numbers(weights, feature.weights) if _is_text(raw) else weights
        finite = np.nan_to_num(as_float(weights, feature.weights), nan=0.0, posinf=0.0, neginf=0.0)
        return Ragged(offsets, ids, finite.clip(-LARGEST, LARGEST).astype(np.float32))

    def save(self, folder: Path) -> None:
        """Write `encoder.json` and one Parquet file per vocabulary into `folder`."""
        (folder / "vocabularies").mkdir(parents=True, exist_ok=True)
        numbers = {name: transform.model_dump() for name, transform in self.numbers.items()}
        described = {"schema": self.schema.model_dump(mode="json"), "numbers": numbers, "vocabularies": {}}
        for i, (name, vocabulary) in enumerate(self.vocabularies.items()):
            described["vocabularies"][name] = f"vocabularies/{i}.parquet"
            vocabulary.save(folder / "vocabularies" / f"{i}.parquet")
        (folder / "encoder.json").write_text(json.dumps(described, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Encoder:
        described: dict[str, Any] = json.loads((folder / "encoder.json").read_text())
        vocabularies = {name: Vocabulary.load(folder / path) for name, path in described["vocabularies"].items()}
        numbers = {name: _transform(t).from_dict(t) for name, t in described["numbers"].items()}
        return cls(Schema.from_dict(described["schema"]), vocabularies, numbers)


def _by_name(rows: pa.RecordBatch) -> Arrays:
    return dict(zip(rows.schema.names, rows.columns, strict=True))


def _transform(described: dict[str, Any]) -> type[Standard] | type[Bins]:
    return Bins if "mean" not in described else Piecewise if "edges" in described else Standard


def as_float(column: pa.Array, name: str) -> NDArray[np.float64]:
    """(N,) float64 with NaN for null. Raises InputError for anything but numbers and booleans."""
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)):
        raise InputError(f"column {name!r} holds {column.type}, but numbers are needed; convert it first")
    return numbers_of(column.cast(pa.float64(), safe=False), missing=np.nan)


_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


def flat_lists(column: pa.Array, name: str) -> tuple[pa.Array, NDArray[np.int64]]:
    """Values of a list column one after the other, and offsets (N + 1,); a null list is empty. Raises InputError."""
    if pa.types.is_null(column.type):
        return pa.nulls(0), np.zeros(len(column) + 1, np.int64)
    if not any(is_list(column.type) for is_list in _LISTS):
        raise InputError(f"column {name!r} holds {column.type}, but a list per row is needed")
    lengths = numbers_of(pc.list_value_length(column), missing=0)
    return column.flatten(), np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def _is_text(column: pa.Array) -> bool:
    return is_text(column.type.value_type if pa.types.is_dictionary(column.type) else column.type)


def _as_lists(column: pa.Array, name: str, separator: str | None) -> pa.Array:
    """A column with its texts split. Raises InputError for texts that nothing is said to part."""
    if not _is_text(column):
        is_missing = separator is not None and column.null_count == len(column)  # of any type, as data frames read it
        return pa.nulls(len(column)) if is_missing else column
    if separator is None:
        raise InputError(
            f"column {name!r} holds text, but a list per row is needed; give lists, or set what parts the texts, as "
            'separator = "|", in the schema and train again'
        )
    return split(column, separator)


def _newest(lists: Ragged, length: int) -> Ragged:
    """The last `length` ids of every list."""
    lengths = np.diff(lists.offsets)
    kept = np.minimum(lengths, length)
    offsets = np.concatenate([[0], np.cumsum(kept)])
    source = np.repeat(lists.offsets[1:] - offsets[1:], kept) + np.arange(offsets[-1])
    return Ragged(offsets, lists.ids[source])
