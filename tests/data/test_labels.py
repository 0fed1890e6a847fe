"""Labels: 0, 1 and unobserved from every type, and rows that contradict the funnel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from funnelcast.data.labels import encode_labels, filled, inconsistent, mend
from funnelcast.errors import DataError, InputError
from funnelcast.schema.funnel import Funnel

TREE = Funnel.parse("click; cart after click; buy after cart; like after click")
CHAIN = {rule: Funnel.parse("click; buy after click", on_broken=rule) for rule in ("drop", "imply", "error")}
ROWS = np.array([[0, 0], [0, 1], [1, 1], [255, 1], [0, 255]], np.uint8)
FILLED = [[0, 0], [0, 1], [1, 1], [1, 1], [0, 0]]
LABELS = st.lists(st.lists(st.sampled_from([0, 1, 255]), min_size=4, max_size=4), min_size=1).map(
    lambda rows: np.array(rows, np.uint8)
)


@pytest.mark.parametrize(
    "values",
    [[0, 1, None], [0.0, 1.0, None], [0.0, 1.0, float("nan")], [False, True, None]],
)
def test_labels_from_every_type(values: list[Any]) -> None:
    labels, bad = encode_labels(pa.RecordBatch.from_pydict({"click": values}), Funnel.parse("click"))
    assert labels[:, 0].tolist() == [0, 1, 255]
    assert not bad.any()


def test_anything_else_is_bad() -> None:
    rows = pa.RecordBatch.from_pydict({"x": [0, 2, -1, 0.5, float("inf"), -float("inf")], "b": [1] * 6})
    _, bad = encode_labels(rows, Funnel.parse("a; b", labels={"a": "x"}))
    assert bad.tolist() == [False, True, True, True, True, True]


def test_text_is_no_label() -> None:
    with pytest.raises(InputError, match="column 'click' holds string"):
        encode_labels(pa.RecordBatch.from_pydict({"click": ["0"]}), Funnel.parse("click"))


def test_a_step_without_its_parent_is_inconsistent_and_an_unobserved_parent_is_not() -> None:
    assert inconsistent(ROWS, CHAIN["drop"]).tolist() == [False, True, False, False, False]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([0, 255, 255, 255], [0, 0, 0, 0]),
        ([255, 255, 1, 255], [1, 1, 1, 255]),
        ([1, 0, 255, 255], [1, 0, 0, 255]),
        ([255, 0, 255, 1], [1, 0, 0, 1]),
        ([255, 255, 255, 255], [255, 255, 255, 255]),
        ([0, 255, 1, 255], [0, 1, 1, 0]),
    ],
)
def test_what_the_funnel_says_of_steps_that_were_not_observed(row: list[int], expected: list[int]) -> None:
    before = np.array([row], np.uint8)
    assert filled(before, TREE).tolist() == [expected]
    assert before.tolist() == [row]


def test_a_gap_hides_no_contradiction() -> None:
    labels, keep, count = mend(np.array([[0, 255, 1, 0], [0, 255, 255, 255]], np.uint8), TREE)
    assert keep.tolist() == [False, True] and count == 1 and labels[1].tolist() == [0, 0, 0, 0]


def test_dropping() -> None:
    labels, keep, count = mend(ROWS, CHAIN["drop"])
    assert (labels.tolist(), keep.tolist(), count) == (FILLED, [True, False, True, True, True], 1)


def test_implying_reaches_every_step_before() -> None:
    labels, keep, count = mend(ROWS, CHAIN["imply"])
    assert keep.all() and count == 1
    assert labels.tolist() == [[0, 0], [1, 1], *FILLED[2:]]
    tree = Funnel.from_dict({**TREE.model_dump(), "on_broken": "imply"})
    assert mend(np.array([[0, 0, 1, 0]], np.uint8), tree)[0].tolist() == [[1, 1, 1, 0]]


def test_an_error_names_the_row_and_its_labels() -> None:
    with pytest.raises(DataError, match="1 rows contradict the funnel, the first is row 1 with click = 0, buy = 1"):
        mend(ROWS, CHAIN["error"])
    assert mend(ROWS[:1], CHAIN["error"])[2] == 0


@given(LABELS)
def test_implied_labels_are_whole_and_change_nothing_else(labels: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    before = labels.copy()
    mended, keep, _ = mend(labels, Funnel.from_dict({**TREE.model_dump(), "on_broken": "imply"}))
    assert keep.all() and (labels == before).all()
    assert not inconsistent(mended, TREE).any()
    whole = filled(labels, TREE)
    assert ((mended == whole) | (mended == 1)).all()
    fine = ~inconsistent(whole, TREE)
    assert (mended[fine] == whole[fine]).all()
