"""Ragged lists against plain Python lists."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from funnelcast.data.columns import Columns, Ragged

Lists = list[list[int]]
LISTS = st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=8)


def ragged(lists: Lists) -> Ragged:
    ids = np.array([i for row in lists for i in row], np.int32)
    return Ragged(np.cumsum([0, *map(len, lists)], dtype=np.int64), ids, (ids / 2).astype(np.float32))


def lists_of(found: Ragged) -> Lists:
    assert found.weights is not None and (found.weights * 2 == found.ids).all()
    assert [str(found.offsets.dtype), str(found.ids.dtype), str(found.weights.dtype)] == ["int64", "int32", "float32"]
    return [found.ids[a:b].tolist() for a, b in zip(found.offsets, found.offsets[1:], strict=False)]


@given(LISTS, st.data())
def test_take(lists: Lists, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=10))
    assert lists_of(ragged(lists).take(np.array(rows, np.int64))) == [lists[row] for row in rows]


@given(st.lists(LISTS, min_size=1, max_size=4))
def test_concatenate(parts: list[Lists]) -> None:
    assert lists_of(Ragged.concatenate([ragged(part) for part in parts])) == [row for part in parts for row in part]


def test_taking_rows_takes_every_column() -> None:
    columns = Columns(
        np.arange(6, dtype=np.int32).reshape(3, 2),
        np.arange(3, dtype=np.float32)[:, None],
        {"tags": ragged([[1], [], [2, 3]])},
        np.array([[0], [1], [255]], np.uint8),
        np.array([1, 2, 3], np.float32),
    )
    found = columns.take(np.array([2, 0]))
    assert found.labels is not None and found.weight is not None
    assert found.ids.tolist() == [[4, 5], [0, 1]]
    assert found.numeric.tolist() == [[2], [0]]
    assert lists_of(found.ragged["tags"]) == [[2, 3], [1]]
    assert found.labels.tolist() == [[255], [0]]
    assert found.weight.tolist() == [3, 1]
