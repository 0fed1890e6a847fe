"""Vocabularies: which id a value gets, for every type a column can come in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from funnelcast.data.vocabulary import Vocabulary
from funnelcast.errors import InputError

INTEGERS = Vocabulary(pa.array([7, 3, -2], pa.int32()))
STRINGS = Vocabulary(pa.array(["b", "", "ä"]))


def fit(values: list[object], counts: list[int], min_count: int = 1) -> list[object]:
    found: list[object] = Vocabulary.fit(pa.array(values), np.array(counts), min_count).values.to_pylist()
    return found


def test_fitting_keeps_frequent_values_in_ascending_order() -> None:
    assert fit([5, 3, 9], [2, 1, 3], 2) == [5, 9]
    assert fit([9, 5, 3], [3, 2, 1], 2) == [5, 9]
    assert fit(["b", "a"], [1, 1]) == ["a", "b"]
    assert fit(["b", "a"], [1, 1], 2) == []


@pytest.mark.parametrize(
    "column",
    [
        pa.array([3, None, 8, 7]),
        pa.array([3, None, 8, 7], pa.uint8()),
        pa.array([3.0, None, 8.0, 7.0]),
        pa.array([3.0, float("nan"), 8.0, 7.0]),
        pa.array([3, None, 8, 7]).dictionary_encode(),
    ],
)
def test_integers_from_every_type(column: pa.Array) -> None:
    assert INTEGERS.ids(column, "x").tolist() == [2, 0, 0, 1]


def test_null_is_not_the_number_that_lies_there() -> None:
    zero = Vocabulary(pa.array([5, 0]))
    assert zero.ids(pa.array([None, 0, 5, None]), "x").tolist() == [0, 2, 1, 0]
    assert zero.ids(pa.array([0, None, 0, 5, None])[1:4], "x").tolist() == [0, 2, 1]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_strings_from_every_type(kind: pa.DataType) -> None:
    column = pa.array(["ä", None, "c", "", "b"]).cast(kind)
    assert STRINGS.ids(column, "x").tolist() == [3, 0, 0, 2, 1]


def test_slices_empty_columns_and_columns_of_nulls() -> None:
    assert STRINGS.ids(pa.array(["b", "ä", None, "b"])[1:3], "x").tolist() == [3, 0]
    assert INTEGERS.ids(pa.array([], pa.int64()), "x").tolist() == []
    assert INTEGERS.ids(pa.nulls(2), "x").tolist() == [0, 0]
    assert Vocabulary(pa.array([], pa.int64())).ids(pa.array([1]), "x").tolist() == [0]
    assert len(Vocabulary(pa.array([], pa.string()))) == 1


@pytest.mark.parametrize(
    ("vocabulary", "column"),
    [(INTEGERS, pa.array(["7"])), (STRINGS, pa.array([7])), (STRINGS, pa.array([7.0])), (STRINGS, pa.array([[1]]))],
)
def test_another_type_is_an_error_that_names_the_column(vocabulary: Vocabulary, column: pa.Array) -> None:
    with pytest.raises(InputError, match=r"column 'user' holds .* its vocabulary was made of"):
        vocabulary.ids(column, "user")


def test_fractions_are_no_ids() -> None:
    with pytest.raises(InputError, match="column 'user' cannot be read as integers"):
        INTEGERS.ids(pa.array([7.5]), "user")


LIMITS = {pa.float16(): 2**11, pa.float32(): 2**24, pa.float64(): 2**53}


@pytest.mark.parametrize("kind", LIMITS)
def test_floats_that_skip_whole_numbers_are_no_ids(kind: pa.DataType) -> None:
    """Ids of 2^60 and more that came as floats would run together, known ones and unknown ones alike."""
    limit = LIMITS[kind]
    vocabulary = Vocabulary(pa.array([limit - 1, limit]))
    assert vocabulary.ids(pa.array([limit - 1, None], kind), "x").tolist() == [1, 0]
    for value in (limit, -limit, 2**15 if kind == pa.float16() else 2**60):
        with pytest.raises(
            InputError, match=f"'x' holds the .* {abs(value)}, and floats from {limit} on .* cast it to int64"
        ):
            vocabulary.ids(pa.array([1.0, float(value)]).cast(kind), "x")


def test_integers_beyond_64_bits_name_the_fix() -> None:
    with pytest.raises(InputError, match=r"cannot be read as integers: .* 64 bits, or train on strings"):
        INTEGERS.ids(pa.array([2**63], pa.uint64()), "x")


def test_an_empty_vocabulary_has_no_type() -> None:
    """Day 2 of a log may have an empty column, and day 3 ids again."""
    empty = Vocabulary(pa.array([], pa.string()))
    for column in (pa.array([1, None]), pa.array(["a", None]), pa.array([1, None]).dictionary_encode()):
        assert empty.ids(column, "x").tolist() == [0, 0]
    assert INTEGERS.ids(pa.nulls(2, pa.string()), "x").tolist() == [0, 0]
    with pytest.raises(InputError):
        empty.ids(pa.array([[1]]), "x")
    assert empty.grown(pa.array([3, 2])).values.equals(pa.array([2, 3]))
    assert INTEGERS.grown(pa.array([], pa.string())).values.equals(INTEGERS.values)


def test_growing_keeps_every_id_and_adds_at_the_end() -> None:
    grown = INTEGERS.grown(pa.array([9, 3, None, 8, 9]))
    assert grown.values.to_pylist() == [7, 3, -2, 8, 9]
    assert grown.ids(pa.array([9, 7]), "x").tolist() == [5, 1]


def test_saved_and_loaded(tmp_path: Path) -> None:
    for i, vocabulary in enumerate((INTEGERS, STRINGS, Vocabulary(pa.array([], pa.string())))):
        vocabulary.save(tmp_path / f"{i}")
        loaded = Vocabulary.load(tmp_path / f"{i}")
        assert loaded.values.equals(vocabulary.values)
        assert loaded.is_integer == vocabulary.is_integer


@given(st.lists(st.integers(-(2**63), 2**63 - 1), unique=True), st.lists(st.integers(-5, 5) | st.none()))
def test_the_id_is_the_place_in_the_vocabulary(values: list[int], column: list[int | None]) -> None:
    vocabulary = Vocabulary(pa.array(values, pa.int64()))
    expected = [values.index(value) + 1 if value in values else 0 for value in column]
    assert vocabulary.ids(pa.array(column, pa.int64()), "x").tolist() == expected
