"""Texts that stand for lists and for numbers, against Python's own way with them."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funnelcast.data.texts import LISTS, as_numbers, is_text, split
from funnelcast.errors import InputError

TEXTS = ["12|7|93", "", None, "|", "a||b", "a|", "|a", " a | b ", "7"]
ELEMENTS = [["12", "7", "93"], [], [], [None, None], ["a", None, "b"], ["a", None], [None, "a"], [" a ", " b "], ["7"]]
KINDS = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_empty_and_missing_texts_are_empty_lists_and_empty_elements_null(kind: pa.DataType) -> None:
    texts = pa.array(TEXTS).cast(kind)
    assert (split(texts, "|").type, split(texts, "|").to_pylist()) == (LISTS, ELEMENTS)
    assert split(texts.slice(3, 3), "|").to_pylist() == ELEMENTS[3:6]
    assert split(texts.slice(1, 2), "|").to_pylist() == [[], []]
    assert split(texts.slice(0, 0), "|").to_pylist() == []


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.text("ab|.^ é", max_size=9) | st.none()), st.sampled_from(["|", ";", "||", " ", ".", "^", "a|", "é"])
)
def test_a_separator_is_no_pattern_and_may_be_longer(texts: list[str | None], separator: str) -> None:
    expected = [[part or None for part in text.split(separator)] if text else [] for text in texts]
    assert split(pa.array(texts, pa.string()), separator).to_pylist() == expected


def test_numbers() -> None:
    texts = ["1", " -.5e1 ", "5.", "1e400", "NA", "None", "nan", "True", "false", None, "\t7"]
    expected = [1, -5, 5, float("inf"), None, None, None, 1, 0, None, 7]
    assert as_numbers(pa.array(texts), "w").to_pylist() == expected
    with pytest.raises(InputError, match=r"column 'w' cannot be read as numbers: .*'1,5'.*; mend it"):
        as_numbers(pa.array(["1", "1,5"]), "w")


def test_what_is_text() -> None:
    assert [is_text(kind) for kind in KINDS] == [True, True, True, False]
    assert not any(map(is_text, (pa.binary(), pa.null(), pa.int64(), pa.list_(pa.string()))))
