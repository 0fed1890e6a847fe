"""Hashes of the ids that a table holds as unknown: by them rows can still be compared by what the log says."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from funnelcast.compiled import compiled
from funnelcast.data.arrow import array_of, is_valid, numbers_of
from funnelcast.data.columns import Columns, Ragged
from funnelcast.data.encoder import Encoder, flat_lists
from funnelcast.data.texts import is_text

Hashes = NDArray[np.uint64]
Rows = NDArray[np.int64]
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(values: Hashes) -> Hashes:
    """The finaliser of splitmix64, in place: one to one, every bit depends on every bit."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values ^= values >> np.uint64(shift)
        values *= np.uint64(factor)
    values ^= values >> np.uint64(31)
    return values


def unknown_values(encoder: Encoder, rows: pa.RecordBatch, columns: Columns) -> Hashes:
    """(N,) hashes of the ids of each row that no vocabulary knows, 0 for a row without one; a missing id is none.

    `columns`: the rows as `encoder` has encoded them.
    """
    hashes = np.zeros(len(columns), np.uint64)
    if np.count_nonzero(columns.ids) < columns.ids.size:
        for place, (name, _) in enumerate(encoder.inputs.fields):
            if encoder.schema.features[name].kind == "categorical":
                _add_field(hashes, place, columns, rows.column(encoder.schema.column(name)))
    for place, each in enumerate(encoder.inputs.lists, start=len(encoder.inputs.fields)):
        lists = columns.ragged[each.name]
        if np.count_nonzero(lists.ids) < len(lists.ids):
            column = encoder.schema.column(each.name)
            _add_lists(hashes, place, lists, *flat_lists(rows.column(column), column), each.kind == "sequence")
    return hashes


def _add_field(hashes: Hashes, place: int, columns: Columns, raw: pa.Array) -> None:
    rows = np.flatnonzero(columns.ids[:, place] == 0)
    if len(rows) > raw.null_count:
        hashes[rows] += _salted(raw.take(array_of(rows)), place, np.zeros(1, np.int64))


def _add_lists(hashes: Hashes, place: int, lists: Ragged, raw: pa.Array, starts: Rows, is_ordered: bool) -> None:
    """`raw`: the elements of all lists, of which `lists` has the last ones, and where each list starts."""
    at = np.flatnonzero(lists.ids == 0)
    rows = np.searchsorted(lists.offsets, at, side="right") - 1
    values = raw.take(array_of(starts[rows + 1] - lists.offsets[rows + 1] + at))
    within = at - lists.offsets[rows] if is_ordered else np.zeros(1, np.int64)
    np.add.at(hashes, rows, _salted(values, place, within))


def _salted(values: pa.Array, place: int, within: Rows) -> Hashes:
    """(n,) hashes of values, of a feature at its `place`, and `within` its lists; 0 of missing ones."""
    if pa.types.is_null(values.type):
        return np.zeros(len(values), np.uint64)
    hashes, known = _hashes(values)
    hashes = mix(hashes + GOLDEN * (np.uint64(place + 1) + (within.astype(np.uint64) << np.uint64(32))))
    hashes[~known] = 0
    return hashes


def _hashes(values: pa.Array) -> tuple[Hashes, NDArray[np.bool_]]:
    """(n,) hashes of texts, or whole numbers of any type, and which of them are not missing."""
    if is_text(values.type):
        texts = values.cast(pa.large_string())
        hashes = np.empty(len(texts), np.uint64)
        _, starts, letters = texts.buffers()
        offsets = np.frombuffer(starts, np.int64, len(texts) + 1, 8 * texts.offset)
        _hash_texts(np.frombuffer(letters or b"\0", np.uint8), offsets, hashes)
        return mix(hashes), _known(texts)
    if pa.types.is_floating(values.type):
        values = values.cast(pa.float64())
        values = pc.if_else(pc.is_nan(values), None, values)
    elif pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    return mix(numbers_of(values.cast(pa.int64()), missing=0).astype(np.uint64)), _known(values)


def _known(values: pa.Array) -> NDArray[np.bool_]:
    return is_valid(values) if values.null_count else np.ones(len(values), np.bool_)


@compiled
def _hash_texts(letters: NDArray[np.uint8], offsets: Rows, hashes: Hashes) -> None:
    """FNV-1a of each text (n,), whose bytes lie from one offset (n + 1,) to the next."""
    for i in range(len(hashes)):
        found = np.uint64(0xCBF29CE484222325)
        for at in range(offsets[i], offsets[i + 1]):
            found = (found ^ np.uint64(letters[at])) * np.uint64(0x100000001B3)
        hashes[i] = found
