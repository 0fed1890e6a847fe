"""Eight bytes of text at a time: what a word begins with, in a handful of operations.

A word is 64 bits, its first byte lowest. Tests of all bytes at once set the highest bit of each that passes; the lowest
one that is set is exact (Mycroft 1987).
"""

from __future__ import annotations

import sys
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from funnelcast.compiled import compiled

BYTES: Final = 8
_I64: Final = ir.IntType(64)
_EACH: Final = 0x0101010101010101
_HIGH: Final = np.uint64(0x80 * _EACH)
_LOW: Final = np.uint64(0x7F * _EACH)
_ONES: Final = np.uint64(_EACH)
_FOURS: Final = np.uint64(4 * _EACH)
_COMMA: Final = ord(",")
_COMMAS: Final = np.uint64(_COMMA * _EACH)
_LINE_ENDS: Final = np.uint64(ord("\n") * _EACH)
_DIGITS: Final = np.uint64(ord("0") * _EACH)
_ABOVE_NINE: Final = np.uint64((0x80 - 10) * _EACH)
"""Brings 10 and more to the highest bit."""
_CASES: Final = np.uint64(0x20 * _EACH)
_LETTERS: Final = np.uint64((ord("a") - 1) * _EACH)
_ABOVE_SIX: Final = np.uint64((0x80 - 7) * _EACH)
_NIBBLES: Final = np.uint64(0x0F * _EACH)
_BYTES_OF_TWO: Final = np.uint64(0x00FF00FF00FF00FF)
_BYTES_OF_FOUR: Final = np.uint64(0x0000FFFF0000FFFF)
_BYTE: Final = np.uint64(255)
_HALF: Final = np.uint64(0xFFFFFFFF)
_PAIRS: Final = np.uint64(0x000000FF000000FF)
_HUNDREDS: Final = np.uint64(100 + (1_000_000 << 32))
_TEN_THOUSANDS: Final = np.uint64(1 + (10_000 << 32))
_ONE: Final = np.uint64(int.from_bytes(b"1.0\x01", "little"))
_LOG_TWO: Final = np.uint64(int.from_bytes(b"0.69315\x01", "little"))


def _load(typing: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        word = builder.load(builder.inttoptr(values[0], _I64.as_pointer()))
        word.align = 1
        return builder.bswap(word) if sys.byteorder == "big" else word

    return types.uint64(types.int64), code


def _count(typing: Any, marks: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.lshr(builder.cttz(values[0], ir.IntType(1)(0)), _I64(3))

    return types.int64(types.uint64), code


def _swap(typing: Any, word: Any) -> Any:
    return types.uint64(types.uint64), lambda context, builder, signature, values: builder.bswap(values[0])


word_at = intrinsic(_load)
"""The eight bytes at an address, which must be there."""
bytes_before = intrinsic(_count)
"""How many bytes come before the first one whose highest bit is set; 8 where none is."""
swapped = intrinsic(_swap)
"""A word with its first byte highest."""


@compiled
def read_name(word: Any) -> Any:
    """Length of the name of 1 to 7 bytes before byte 2, and its bytes as a number; zeros where there is none."""
    ends = (word - _FOURS) & ~word & _HIGH  # bytes below 4
    length = bytes_before(ends)
    commas, line_ends = word ^ _COMMAS, word ^ _LINE_ENDS
    others = (((commas - _ONES) & ~commas) | ((line_ends - _ONES) & ~line_ends)) & _HIGH
    if length == 0 or length == BYTES or others & (ends ^ (ends - np.uint64(1))):
        return 0, np.uint64(0)
    bits = np.uint64(8 * length)
    if (word >> bits) & _BYTE != 2:
        return 0, np.uint64(0)
    return length, swapped(word) >> (np.uint64(64) - bits)


@compiled
def read_number(word: Any) -> Any:
    """How many digits it begins with, and their number."""
    digits = word ^ _DIGITS
    length = bytes_before((((digits & _LOW) + _ABOVE_NINE) | digits) & _HIGH)
    if length == 0:
        return 0, 0
    digits <<= np.uint64(64 - 8 * length)  # zeros in front
    digits = digits * np.uint64(10) + (digits >> np.uint64(8))
    digits = (digits & _PAIRS) * _HUNDREDS + ((digits >> np.uint64(16)) & _PAIRS) * _TEN_THOUSANDS
    return length, np.int64(digits >> np.uint64(32))


@compiled
def length_of_frequent(word: Any) -> Any:
    """3 for 1.0 and 7 for 0.69315 before another feature, 0 for other values."""
    if word & _HALF == _ONE:
        return 3
    return 7 if word == _LOG_TWO else 0


@compiled
def find_comma(data: Any, start: int, end: int) -> Any:
    """Where the first one stands from `start` on, `end` where none does."""
    at, address, last_word = start, data.ctypes.data, len(data) - BYTES
    while at < end and at <= last_word:
        marks = word_at(address + at) ^ _COMMAS
        marks = (marks - _ONES) & ~marks & _HIGH
        at += bytes_before(marks)
        if marks:
            return min(at, end)
    while at < end and data[at] != _COMMA:
        at += 1
    return min(at, end)


@compiled
def read_hex(word: Any) -> Any:
    """Whether it is eight hexadecimal digits, and their number."""
    digits, letters = word ^ _DIGITS, (word | _CASES) ^ _LETTERS  # letters from 1 on
    tens = ((digits & _LOW) + _ABOVE_NINE) | digits
    others = ((letters & _LOW) + _ABOVE_SIX) | ~((letters & _LOW) + _LOW) | letters
    if tens & others & _HIGH:
        return False, np.uint64(0)
    number = swapped((word & _NIBBLES) + np.uint64(9) * ((word >> np.uint64(6)) & _ONES))
    number = (number | (number >> np.uint64(4))) & _BYTES_OF_TWO
    number = (number | (number >> np.uint64(8))) & _BYTES_OF_FOUR
    return True, (number | (number >> np.uint64(16))) & _HALF


@compiled
def find_line_ends(data: Any, ends: Any) -> int:
    """Fills `ends` with the indices of line ends as far as it has room, and returns how many there are."""
    count, at, address, last_word = 0, 0, data.ctypes.data, len(data) - BYTES
    while at < len(data):
        if at <= last_word:
            marks = word_at(address + at) ^ _LINE_ENDS
            marks = (marks - _ONES) & ~marks & _HIGH
            if not marks:
                at += BYTES
                continue
            at += bytes_before(marks)
        if data[at] == 10:
            if count < len(ends):
                ends[count] = at
            count += 1
        at += 1
    return count
