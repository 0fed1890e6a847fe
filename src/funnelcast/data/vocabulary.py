"""Vocabularies: raw values to ids 1 … n; 0 stands for unknown and missing."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from funnelcast.data.arrow import array_of, is_valid, numbers_of
from funnelcast.data.slots import look_up, slots_of
from funnelcast.data.texts import is_text
from funnelcast.errors import InputError


class Vocabulary:
    """The values with ids 1 … n in id order: integers or strings, never both.

    A vocabulary grows at its end, so that an id keeps its meaning.
    """

    def __init__(self, values: pa.Array) -> None:
        """`values`: (n,) distinct, int64 or string, no nulls."""
        self.is_integer = bool(pa.types.is_integer(values.type))
        self.values = values.cast(pa.int64() if self.is_integer else pa.string())

    @classmethod
    def fit(cls, values: pa.Array, counts: NDArray[np.int64], min_count: int = 1) -> Vocabulary:
        """The values that occur at least `min_count` times, in ascending order: the same for any order of the rows."""
        kept = values.take(array_of(np.flatnonzero(counts >= min_count)))
        return cls(kept.take(pc.sort_indices(kept)))

    def __len__(self) -> int:
        """Number of ids including 0."""
        return len(self.values) + 1

    @property
    def is_empty(self) -> bool:
        """Whether it knows no value, as of a column that was empty; its type then means nothing."""
        return not len(self.values)

    def grown(self, values: pa.Array) -> Vocabulary:
        """With those of `values` that are not in it yet added at the end, ascending."""
        own = self.values.cast(values.type) if self.is_empty else self.values
        fresh = pc.unique(values.cast(own.type)).drop_null()
        fresh = fresh.filter(pc.invert(pc.is_in(fresh, own)))
        return Vocabulary(pa.concat_arrays([own, fresh.take(pc.sort_indices(fresh))]))

    def ids(self, column: pa.Array, name: str) -> NDArray[np.int32]:
        """Ids (N,) of a column; unknown and null are 0. Raises InputError when the type cannot match."""
        if self.is_empty and _is_id(column.type):
            return np.zeros(len(column), np.int32)
        values = _as_type_of(column, self.values.type, name)
        if self.is_integer or (len(values) <= FEW and not values.null_count):
            return self._lookup(values)
        encoded = pc.dictionary_encode(values)
        ids = self._lookup(encoded.dictionary)
        found: NDArray[np.int32] = np.append(ids, np.int32(0))[numbers_of(encoded.indices, missing=len(ids))]
        return found

    def ids_of_texts(self, texts: pa.Array, name: str) -> NDArray[np.int32]:
        """The same of texts, which hold an integer where they are written as one (`7`, `-3`, `5.0`; not `007`)."""
        if not self.is_integer:
            return self.ids(texts, name)
        return self._as_texts.ids(pc.replace_substring_regex(texts, r"\.0$", ""), name)

    def unknown(self, column: pa.Array, name: str) -> pa.Array:
        """The values of a column that it does not know, distinct, ascending, of its own type. Raises InputError as
        `ids` does."""
        values = pc.unique(_as_type_of(column, self.values.type, name)).drop_null()
        values = values.take(array_of(np.flatnonzero(self._lookup(values) == 0)))
        return values.take(pc.sort_indices(values))

    def unknown_of_texts(self, texts: pa.Array, name: str) -> pa.Array:
        """The same of texts; one that holds no integer is no id of a vocabulary of integers, and left out."""
        if not self.is_integer:
            return self.unknown(texts, name)
        found = [text for text in pc.unique(texts).to_pylist() if text is not None and _INTEGER.fullmatch(text)]
        numbers = [number for text in found if -(2**63) <= (number := int(text.removesuffix(".0"))) < 2**63]
        return self.unknown(pa.array(numbers, pa.int64()), name)

    @cached_property
    def _as_texts(self) -> Vocabulary:
        return Vocabulary(self.values.cast(pa.string()))

    def _lookup(self, values: pa.Array) -> NDArray[np.int32]:
        if not self.is_integer:
            table = self._ids_by_string
            return np.array([table.get(value, 0) for value in values.to_pylist()], np.int32)
        found = np.empty(len(values), np.int32)
        look_up(numbers_of(values, missing=0), *self._slots, found)
        if values.null_count:
            found[~is_valid(values)] = 0
        return found

    @cached_property
    def _slots(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        values = numbers_of(self.values)
        return slots_of(values), values

    @cached_property
    def _ids_by_string(self) -> dict[str, int]:
        return {value: i for i, value in enumerate(self.values.to_pylist(), start=1)}

    def save(self, path: Path) -> None:
        pq.write_table(pa.table({"value": self.values}), path)

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        with pq.ParquetFile(path) as file:  # `read_table` imports what reads folders of them
            return cls(file.read(["value"]).column("value").combine_chunks())


FEW = 1024
"""Texts that are looked up one by one, rather than the distinct ones among them."""
_INTEGER = re.compile(r"(0|-?[1-9]\d{0,18})(\.0)?")
_NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
_TEXTS = (is_text,)


def whole_below(size: int) -> float:
    """Up to where floats of `size` bytes (2, 4, 8) tell every whole number from the next: 2^11, 2^24, 2^53."""
    return {2: 2.0**11, 4: 2.0**24, 8: 2.0**53}[size]


def _is_id(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(fits(kind) for fits in _NUMBERS + _TEXTS)


def _as_type_of(column: pa.Array, wanted: pa.DataType, name: str) -> pa.Array:
    """`column` as `wanted`. Whole floats become integers, as data frames turn missing integers into floats."""
    if column.type == wanted:
        return column
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.null_count == len(column):  # of any type, as an empty column of a CSV
        return pa.nulls(len(column), wanted)
    if pa.types.is_integer(wanted) and pa.types.is_floating(column.type):
        kind, limit = column.type, whole_below(column.type.bit_width // 8)
        column = column.cast(pa.float64())  # half floats lack functions
        column = pc.if_else(pc.is_nan(column), None, column)
        largest = pc.max(pc.abs(column)).as_py()
        if largest is not None and limit <= largest < float("inf"):
            raise InputError(
                f"column {name!r} holds the {kind} {largest:.0f}, and floats from {limit:.0f} on skip whole "
                "numbers; cast it to int64 or string where it still has its digits"
            )
    kinds = "integers" if pa.types.is_integer(wanted) else "strings"
    fitting = _NUMBERS if pa.types.is_integer(wanted) else _TEXTS
    if not any(fits(column.type) for fits in fitting):
        raise InputError(
            f"column {name!r} holds {column.type}, but its vocabulary was made of {kinds}; convert it first"
        )
    try:
        return column.cast(wanted)
    except pa.ArrowInvalid as error:
        raise InputError(
            f"column {name!r} cannot be read as {kinds}: {error}; give whole numbers of 64 bits, or train on strings"
        ) from None
