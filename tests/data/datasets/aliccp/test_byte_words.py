"""What a word begins with, against Python's own reading of the same bytes."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from funnelcast.data.datasets.aliccp.byte_words import (
    find_comma,
    find_line_ends,
    length_of_frequent,
    read_hex,
    read_name,
    read_number,
)

TEXT = st.lists(st.sampled_from(b"0123456789_ab\x00\x01\x02\x03\x04,.\n\xff"), min_size=8, max_size=8).map(bytes)
"""Eight bytes of those that matter, and of others."""
any_time = settings(deadline=None)
"""As the first call may compile."""


def word(text: bytes) -> np.uint64:
    return np.uint64(int.from_bytes(text, "little"))


@any_time
@given(TEXT)
def test_a_name_is_what_stands_before_the_first_field_end(text: bytes) -> None:
    found = re.match(rb"([^\x00-\x03,\n]{1,7})\x02", text)
    name = found[1] if found else b""
    assert read_name(word(text)) == (len(name), int.from_bytes(name, "big"))


@any_time
@given(TEXT | st.from_regex(rb"[0-9]{0,8}\x03{8}", fullmatch=True).map(lambda text: text[:8]))
def test_a_number_is_its_leading_digits(text: bytes) -> None:
    digits = re.match(rb"[0-9]*", text)
    assert digits is not None
    assert read_number(word(text)) == (len(digits[0]), int(digits[0] or b"0"))


@any_time
@given(st.binary(min_size=8, max_size=8) | st.text("0123456789abcdefABCDEF/:@G`g", min_size=8, max_size=8))
def test_hexadecimal_digits_are_told_from_others(text: bytes | str) -> None:
    text = text if isinstance(text, bytes) else text.encode()
    is_hex = re.fullmatch(rb"[0-9a-fA-F]{8}", text) is not None
    found, number = read_hex(word(text))
    assert found == is_hex and (not is_hex or number == int(text, 16))


def test_every_byte_is_a_hexadecimal_digit_or_none() -> None:
    """In every place, beside digits of either kind."""
    for place in range(8):
        for byte in range(256):
            text = bytearray(b"0f9A1b2C")
            text[place] = byte
            found, number = read_hex(word(bytes(text)))
            assert found == (chr(byte) in "0123456789abcdefABCDEF") and (not found or number == int(text, 16))


@any_time
@given(st.lists(st.sampled_from(b",-+\x00\xac"), max_size=40).map(bytes), st.integers(0, 40), st.integers(0, 40))
@example(b"+" * 5 + b"," + b"+" * 30, 0, 4)
@example(b"+" * 30 + b",", 3, 31)
def test_a_comma_is_found_between_two_places(data: bytes, start: int, end: int) -> None:
    end = min(end, len(data))
    at = data.find(b",", start, end)
    assert find_comma(np.frombuffer(data, np.uint8), start, end) == (at if at >= 0 else end)


def test_frequent_values_are_known_before_another_feature_alone() -> None:
    lengths = {b"1.0\x01205\x02": 3, b"0.69315\x01": 7, b"1.0\n2,0,": 0, b"1.09861\x01": 0, b"0.693150": 0}
    for text, length in lengths.items():
        assert length_of_frequent(word(text)) == length


@any_time
@given(st.binary(max_size=60) | st.lists(st.sampled_from(b"a\n\r\x0b"), max_size=60).map(bytes))
def test_every_line_end_is_found(data: bytes) -> None:
    expected = [at for at, byte in enumerate(data) if byte == 10]
    ends = np.full(len(data), -1)
    assert find_line_ends(np.frombuffer(data, np.uint8), ends) == len(expected)
    assert ends[: len(expected)].tolist() == expected
    short = np.full(2, -1)
    assert find_line_ends(np.frombuffer(data, np.uint8), short) == len(expected)
    assert short[: len(expected)].tolist() == expected[:2]
