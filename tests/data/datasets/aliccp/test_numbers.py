"""Texts are read as the numbers that Python's `float` reads, and what it does not read is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from funnelcast.data.datasets.aliccp.numbers import read_float


def read(text: str) -> float:
    return read_float(np.frombuffer(f"7{text}7".encode(), np.uint8), 1, len(text) + 1)


@pytest.mark.parametrize(
    "text", ["1.0", "0.69315", "-2", "+2.5", ".5", "7.", "1e3", "1E-7", "-1.5E+10", "0", "0.000", "00012.50", "1e22"]
)
def test_numbers_of_the_usual_length_are_exact(text: str) -> None:
    assert read(text) == float(text)


@pytest.mark.parametrize(
    "text",
    ["0.1234567890123456789", "1" * 30, "1" * 30 + ".5e-12", "0." + "0" * 30 + "25e31", "9e307", "1e-38", "1e-320"],
)
def test_numbers_of_any_length_are_near(text: str) -> None:
    assert read(text) == pytest.approx(float(text), rel=1e-15, abs=1e-290)


@pytest.mark.parametrize("text", ["1e309", "1e99999999999999999999", "9" * 400])
def test_numbers_beyond_floats_are_infinite(text: str) -> None:
    assert read(text) == float(text) == math.inf and read("-" + text) == -math.inf


@pytest.mark.parametrize(
    "text", ["", "-", "+", ".", "-.", "e5", ".e5", "1e", "1e-", "1e+", "1e.5", "1.2.3", "--1", "1-1"]
)
def test_texts_that_are_no_numbers(text: str) -> None:
    assert math.isnan(read(text))


@given(st.text("0123456789.-+eE", max_size=12))
def test_any_text_is_read_as_python_reads_it(text: str) -> None:
    try:
        expected = float(text)
    except ValueError:
        expected = math.nan
    assert read(text) == pytest.approx(expected, rel=1e-15, abs=1e-290, nan_ok=True)


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_every_float32_is_read_back(value: float) -> None:
    assert np.float32(read(repr(value))) == np.float32(value)
