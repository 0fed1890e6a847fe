"""The byte tokenizer of Ali-CCP's raw lines; every column and every feature is checked on the way.

Of a single-valued field the last id is kept, of a multi-valued field every id with its value.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from funnelcast.compiled import compiled, inlined, uncounted
from funnelcast.data.datasets.aliccp.byte_words import (
    BYTES,
    find_comma,
    length_of_frequent,
    read_hex,
    read_name,
    read_number,
    word_at,
)
from funnelcast.data.datasets.aliccp.faults import (
    CLICK,
    COLUMNS,
    CONVERSION,
    COUNT,
    FEATURE,
    FEATURE_NUM,
    FINE,
    ID,
    INDEX,
    SAMPLE_ID,
    VALUE,
)
from funnelcast.data.datasets.aliccp.fields import LONGEST_FIELD, Fields
from funnelcast.data.datasets.aliccp.numbers import Bytes, count_byte, is_label, read_digits, read_float
from funnelcast.data.numeric import LARGEST

Int64s = NDArray[np.int64]

MISSING = -1
_FEATURE_END, _FIELD_END, _ID_END, _COMMA = 1, 2, 3, 44
_SHORTEST_FEATURE = 6  # bytes, what parts it from the next one included
_IN_VALUE = np.zeros(256, np.bool_)
_IN_VALUE[list(b"0123456789.-+eE")] = True
_HEX = np.full(256, 255, np.uint64)
_HEX[list(b"0123456789")] = np.arange(10)
_HEX[list(b"abcdef")] = _HEX[list(b"ABCDEF")] = np.arange(10, 16)


class Items(NamedTuple):
    """The ids of multi-valued fields in n lines, in the order of the text: of line i from ends[i] to ends[i + 1]."""

    ends: Int64s  # (n + 1,)
    fields: NDArray[np.int16]  # (most,) indices among the multi-valued fields
    ids: Int64s  # (most,)
    weights: NDArray[np.float32]  # (most,) their values


class Tokens(NamedTuple):
    """What was read of n lines. `values` and what follows hold only for lines where `faults` is FINE."""

    faults: NDArray[np.uint8]  # (n,)
    details: Int64s  # (n, 2) numbers for the reason of a fault
    keys: Int64s  # (n,) the common index, its 64 bits
    values: Int64s  # (F, n) the last id of each field, MISSING where there is none
    labels: NDArray[np.uint8]  # (n, 2) click, conversion; skeleton only
    sample_ends: Int64s  # (n,) where the sample id ends; skeleton only
    items: Items


def tokenize(data: Bytes, starts: Int64s, ends: Int64s, fields: Fields, *, skeleton: bool) -> Tokens:
    """The lines at `starts` … `ends` of a skeleton file, or of a common features file."""
    n = len(starts)
    tokens = Tokens(
        faults=np.empty(n, np.uint8),
        details=np.zeros((n, 2), np.int64),
        keys=np.zeros(n, np.int64),
        values=np.full((fields.single, n), MISSING, np.int64),
        labels=np.zeros((n, 2), np.uint8),
        sample_ends=np.zeros(n, np.int64),
        items=_empty_items(n, (len(data) + n) // _SHORTEST_FEATURE if fields.multi else 0),
    )
    _tokenize(data, starts, ends, fields, tokens, skeleton)
    return tokens


def _empty_items(lines: int, most: int) -> Items:
    ends = np.zeros(lines + 1, np.int64)
    return Items(ends, np.empty(most, np.int16), np.empty(most, np.int64), np.empty(most, np.float32))


@compiled
def _tokenize(data: Bytes, starts: Int64s, ends: Int64s, fields: Fields, tokens: Tokens, skeleton: bool) -> None:
    """Arrays are borrowed, and the parts that take them written in: else each line counts each of them anew."""
    faults, details, keys, values, labels, sample_ends, items = tokens
    data, names, indices = uncounted(data), uncounted(fields.keys), uncounted(fields.indices)
    keys, values, labels, sample_ends = uncounted(keys), uncounted(values), uncounted(labels), uncounted(sample_ends)
    items = Items(uncounted(items.ends), uncounted(items.fields), uncounted(items.ids), uncounted(items.weights))
    for i in range(len(starts)):
        tail, end, fault, columns = starts[i], ends[i], FINE, 3
        items.ends[i + 1] = items.ends[i]
        if skeleton:
            columns = 6
            fault, tail = _labels(data, tail, end, i, labels, sample_ends)
        if fault == FINE:
            fault, begin, said = _index_and_number(data, tail, end, i, keys)
        if fault == FINE:
            fault, number = _features(
                data, begin, end, i, names, indices, fields.multiplier, fields.single, values, items
            )
            details[i, 0] = number
            if fault == FINE and data[end - 1] == _FEATURE_END:  # the list breaks off
                details[i, 0] += 1
                fault = FEATURE
            has = number if fault == FINE else 1 + count_byte(data, begin, end, _FEATURE_END)
            if said != has:
                details[i, 0], details[i, 1] = said, has
                fault = COUNT
        if fault != FINE:
            has = 1 + count_byte(data, starts[i], end, _COMMA)
            if has != columns:
                fault = COLUMNS
                details[i, 0], details[i, 1] = has, columns
        faults[i] = fault


@inlined
def _labels(
    data: Bytes, start: int, end: int, i: int, labels: NDArray[np.uint8], sample_ends: Int64s
) -> tuple[int, int]:
    """The columns that a skeleton file begins with: a fault, and where the next column begins."""
    sample_end = find_comma(data, start, end)
    click_end = find_comma(data, sample_end + 1, end)
    conversion_end = find_comma(data, click_end + 1, end)
    if conversion_end >= end:
        return COLUMNS, end
    if sample_end == start:
        return SAMPLE_ID, end
    if not is_label(data, sample_end + 1, click_end):
        return CLICK, end
    if not is_label(data, click_end + 1, conversion_end):
        return CONVERSION, end
    sample_ends[i] = sample_end
    labels[i, 0] = data[sample_end + 1] - 48
    labels[i, 1] = data[click_end + 1] - 48
    return FINE, conversion_end + 1


@inlined
def _index_and_number(data: Bytes, start: int, end: int, i: int, keys: Int64s) -> tuple[int, int, int]:
    """The common index and feature_num: a fault, where the feature list begins, and how many features it says."""
    index_end = find_comma(data, start, end)
    said_end = find_comma(data, index_end + 1, end)
    if said_end >= end:
        return COLUMNS, end, 0
    if not _read_index(data, start, index_end, i, keys):
        return INDEX, end, 0
    said = read_digits(data, index_end + 1, said_end)
    return FINE if said >= 0 else FEATURE_NUM, said_end + 1, said


@inlined
def _features(
    data: Bytes, start: int, end: int, i: int, names: NDArray[np.uint64], indices: NDArray[np.int16],
    multiplier: np.uint64, single: int, values: Int64s, items: Items,
) -> tuple[int, int]:  # fmt: skip
    """FIELD, 2, ID, 3, VALUE, parted by 1: what is as usual eight bytes at a time. A fault, and the number of the last
    feature that was looked at. All time goes into this loop."""
    at, number, address, last_word = start, 0, data.ctypes.data, len(data) - BYTES
    while at < end:
        number += 1
        first, key, value = at, np.uint64(0), 0
        if at <= last_word:
            read, key = read_name(word_at(address + at))
            at += read
        while at < end and data[at] > _ID_END and data[at] != _COMMA:
            key, at = (key << np.uint64(8)) | np.uint64(data[at]), at + 1
        length = at - first
        if length == 0 or at == end or data[at] != _FIELD_END:
            return FEATURE, number
        at, first = at + 1, at + 1
        if at <= last_word:
            read, value = read_number(word_at(address + at))
            at += read
        while at < end and 48 <= data[at] <= 57:
            value, at = value * 10 + (data[at] - 48), at + 1
        if at == end or 0 < data[at] < _ID_END:
            return FEATURE, number
        if data[at] != _ID_END or not 0 < at - first <= 18:
            return ID, number
        at, first = at + 1, at + 1
        at += length_of_frequent(word_at(address + at)) if at <= last_word else 0
        while at < end and _IN_VALUE[data[at]]:
            at += 1
        if at == first or (at < end and data[at] != _FEATURE_END):
            return VALUE, number
        key = (key << np.uint64(8)) | np.uint64(length)
        slot = (key * multiplier) >> np.uint64(54)
        if names[slot] == key and length <= LONGEST_FIELD:
            place = indices[slot]
            if place < single:
                values[place, i] = value
            elif not _put_item(items, i, place - single, value, read_float(data, first, at)):
                return VALUE, number
        at += 1
    return FINE, number


@compiled
def _put_item(items: Items, line: int, field: int, id_: int, weight: float) -> bool:
    """Whether it was put, as its weight is a finite number."""
    if not np.isfinite(weight):
        return False
    at = items.ends[line + 1]
    items.fields[at], items.ids[at] = field, id_
    items.weights[at] = min(max(weight, -LARGEST), LARGEST)
    items.ends[line + 1] = at + 1
    return True


@compiled
def _read_index(data: Bytes, start: int, end: int, i: int, keys: Int64s) -> bool:
    key, address = np.uint64(0), data.ctypes.data
    if end - start == 2 * BYTES:  # as usual
        is_first, first = read_hex(word_at(address + start))
        is_second, second = read_hex(word_at(address + start + BYTES))
        keys[i] = np.int64((first << np.uint64(32)) | second)
        return bool(is_first and is_second)
    for at in range(start, end):
        digit = _HEX[data[at]]
        if digit == 255:
            return False
        key = (key << np.uint64(4)) | digit
    keys[i] = np.int64(key)
    return 0 < end - start <= 16
