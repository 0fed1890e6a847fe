"""Ali-CCP's raw text, written by kernels into a byte buffer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from funnelcast.compiled import compiled
from funnelcast.data.datasets.generator.counter_random import Keys, hash_of, uniform

Bytes = NDArray[np.uint8]
Int64s = NDArray[np.int64]

FIRST_IDS = {
    "101": 1, "121": 3_438_645, "122": 3_438_745, "124": 3_438_760, "125": 3_438_769,
    "126": 3_438_777, "127": 3_438_781, "128": 3_438_785, "129": 3_438_788,
    "109_14": 450_000, "110_14": 470_000, "127_14": 3_450_000, "150_14": 3_910_000,
    "205": 4_180_000, "206": 8_314_000, "207": 8_334_000, "210": 9_060_000, "216": 8_780_000,
    "508": 9_355_000, "509": 9_375_000, "702": 10_120_000, "853": 10_600_000, "301": 9_040_000,
}  # fmt: skip
"""The first id of each field; the fields of the common files stand first. No two fields share an id."""
FIELDS = tuple(FIRST_IDS)
COMMON_FIELDS = FIELDS.index("205")
LONGEST_FEATURE, LONGEST_HEAD = 26, 64
"""Bytes of a feature with its separators; of a line without its features."""
MOST_SEEN = 63
"""The largest count that has a value."""

_FIRST = np.array(list(FIRST_IDS.values()))
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)


class Lines(NamedTuple):
    """Features of the lines of a file: those of line i are [end[i], end[i + 1]), the fields in the order of FIELDS."""

    end: Int64s
    field: NDArray[np.uint8]  # place in FIELDS
    code: NDArray[np.int32]  # the id, counted from the field's first one
    times: NDArray[np.uint8]  # the value is ln(1 + times), or 1.0 where it is 0


def _table(texts: list[str]) -> tuple[Bytes, Int64s]:
    """Texts as rows of bytes (N, 8), and their lengths (N,)."""
    rows = np.array([text.encode() for text in texts], "S8").view(np.uint8).reshape(-1, 8)
    return rows, np.array([len(text) for text in texts])


_FIELD_BYTES, _FIELD_LENGTHS = _table(list(FIELDS))
_VALUE_BYTES, _VALUE_LENGTHS = _table(["1.0", *(f"{np.log1p(n):.5f}".rstrip("0") for n in range(1, MOST_SEEN + 1))])


def skeleton_text(lines: Lines, labels: Bytes, lists: NDArray[np.int32], keys: Keys, first_id: int) -> memoryview:
    """Lines of a skeleton file; labels (N, 2), lists (N,) the place in keys of each row's list."""
    buffer = _buffer(lines)
    return memoryview(buffer)[: _put_skeleton(buffer, lines, labels, lists, keys, first_id)]  # type: ignore[arg-type]


def common_text(lines: Lines, keys: Keys) -> memoryview:
    """Lines of a common file, in the order of their indexes."""
    buffer = _buffer(lines)
    return memoryview(buffer)[: _put_common(buffer, lines, keys, np.argsort(keys))]  # type: ignore[arg-type]


def _buffer(lines: Lines) -> Bytes:
    return np.empty(lines.end[-1] * LONGEST_FEATURE + len(lines.end) * LONGEST_HEAD, np.uint8)


@compiled
def _put_skeleton(
    buffer: Bytes, lines: Lines, labels: Bytes, lists: NDArray[np.int32], keys: Keys, first_id: int
) -> int:
    at, fields, state = 0, np.arange(COMMON_FIELDS, len(FIELDS)), np.empty(1, np.uint64)
    for i in range(len(lists)):
        at = _put_char(buffer, _put_number(buffer, at, first_id + i), ord(","))
        for label in range(2):
            at = _put_char(buffer, _put_char(buffer, at, ord("0") + int(labels[i, label])), ord(","))
        at = _put_char(buffer, _put_hex(buffer, at, keys[lists[i]]), ord(","))
        state[0] = hash_of(keys[lists[i]], first_id + i)
        at = _put_features(buffer, at, lines, i, fields, state)
    return at


@compiled
def _put_common(buffer: Bytes, lines: Lines, keys: Keys, indices: Int64s) -> int:
    at, fields, state = 0, np.arange(COMMON_FIELDS), np.empty(1, np.uint64)
    for i in indices:
        at = _put_char(buffer, _put_hex(buffer, at, keys[i]), ord(","))
        state[0] = hash_of(keys[i], 0)
        at = _put_features(buffer, at, lines, i, fields, state)
    return at


@compiled
def _put_features(buffer: Bytes, at: int, lines: Lines, line: int, fields: Int64s, state: Keys) -> int:
    """Number of features, features field by field in a random order, end of line."""
    begin, end = lines.end[line], lines.end[line + 1]
    at = _put_char(buffer, _put_number(buffer, at, end - begin), ord(","))
    order = fields.copy()
    shuffle(order, state)
    for field in order:
        for i in range(begin + np.searchsorted(lines.field[begin:end], field), end):
            if lines.field[i] != field:
                break
            at = _put_feature(buffer, at, field, _FIRST[field] + lines.code[i], int(lines.times[i]))
    return _put_char(buffer, at - (end > begin), ord("\n"))


@compiled
def shuffle(values: NDArray[np.signedinteger], state: Keys) -> None:
    """In place (Fisher and Yates)."""
    for i in range(len(values) - 1, 0, -1):
        j = int(uniform(state) * (i + 1))
        values[i], values[j] = values[j], values[i]


@compiled
def _put_feature(buffer: Bytes, at: int, field: int, code: int, count: int) -> int:
    at = _put_text(buffer, at, _FIELD_BYTES[field], _FIELD_LENGTHS[field])
    at = _put_number(buffer, _put_char(buffer, at, 2), code)
    at = _put_text(buffer, _put_char(buffer, at, 3), _VALUE_BYTES[count], _VALUE_LENGTHS[count])
    return _put_char(buffer, at, 1)


@compiled
def _put_char(buffer: Bytes, at: int, char: int) -> int:
    buffer[at] = char
    return at + 1


@compiled
def _put_text(buffer: Bytes, at: int, text: Bytes, length: int) -> int:
    for i in range(length):
        buffer[at + i] = text[i]
    return at + length


@compiled
def _put_number(buffer: Bytes, at: int, number: int) -> int:
    end, rest = at + 1, number
    while rest >= 10:
        end, rest = end + 1, rest // 10
    for place in range(end - 1, at - 1, -1):
        buffer[place] = ord("0") + number % 10
        number //= 10
    return end


@compiled
def _put_hex(buffer: Bytes, at: int, key: np.uint64) -> int:
    for i in range(16):
        buffer[at + i] = _HEX[(key >> np.uint64(60 - 4 * i)) & np.uint64(15)]
    return at + 16
