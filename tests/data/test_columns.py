"""Ragged lists against plain Python lists, one list per row and few lists that many rows share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funnelcast.data.columns import Columns, Ragged

Lists = list[list[int]]
LISTS = st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=8)


def ragged(lists: Lists, index: list[int] | None = None) -> Ragged:
    ids = np.array([i for row in lists for i in row], np.int32)
    offsets = np.cumsum([0, *map(len, lists)], dtype=np.int64)
    return Ragged(offsets, ids, (ids / 2).astype(np.float32), None if index is None else np.array(index, np.int32))


def lists_of(found: Ragged) -> Lists:
    assert found.index is None and len(found) == len(found.offsets) - 1 and found.offsets[0] == 0
    assert found.weights is not None and (found.weights * 2 == found.ids).all()
    assert [str(found.offsets.dtype), str(found.ids.dtype), str(found.weights.dtype)] == ["int64", "int32", "float32"]
    return [found.ids[a:b].tolist() for a, b in zip(found.offsets, found.offsets[1:], strict=False)]


@settings(max_examples=50, deadline=None)
@given(LISTS, st.data())
def test_take(lists: Lists, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=10))
    assert lists_of(ragged(lists).take(np.array(rows, np.int64))) == [lists[row] for row in rows]


@settings(max_examples=50, deadline=None)
@given(LISTS, st.data())
def test_take_of_shared_lists_gives_one_per_row(lists: Lists, data: st.DataObject) -> None:
    index = data.draw(st.lists(st.integers(0, len(lists) - 1), min_size=1, max_size=10))
    rows = data.draw(st.lists(st.integers(0, len(index) - 1), max_size=10))
    shared = ragged(lists, index)
    assert len(shared) == len(index)
    assert lists_of(shared.take(np.array(rows, np.int64))) == [lists[index[row]] for row in rows]


@pytest.mark.parametrize("index", [None, [1, 1, 0, 2]])
def test_lists_without_weights_stay_without(index: list[int] | None) -> None:
    shared = None if index is None else np.array(index, np.int32)
    lists = Ragged(np.array([0, 2, 2, 3]), np.array([5, 6, 7], np.int32), index=shared)
    taken = lists.take(np.array([2, 1, 0]))
    assert taken.weights is None
    assert taken.ids.tolist() == ([7, 5, 6] if index is None else [5, 6])
    assert taken.offsets.tolist() == ([0, 1, 1, 3] if index is None else [0, 2, 2, 2])


def test_lists_of_a_file_are_read_where_they_lie(tmp_path: Path) -> None:
    """Memory-mapped and read-only, as a table's are; what is taken is a copy that may be written."""
    held = ragged([[1, 2], [], [3], [4, 5, 6]], [3, 0, 0, 2, 1])
    assert held.weights is not None and held.index is not None
    parts: dict[str, Any] = {"offsets": held.offsets, "ids": held.ids, "weights": held.weights, "index": held.index}
    for name, values in parts.items():
        values.tofile(tmp_path / name)
    mapped = Ragged(**{name: np.memmap(tmp_path / name, a.dtype, "r", shape=a.shape) for name, a in parts.items()})
    taken = mapped.take(np.array([0, 4, 3, 2]))
    assert lists_of(taken) == [[4, 5, 6], [], [3], [1, 2]]
    taken.ids[:] = 0
    assert mapped.ids.tolist() == [1, 2, 3, 4, 5, 6]


@settings(max_examples=50, deadline=None)
@given(st.lists(LISTS, min_size=1, max_size=4))
def test_concatenate(parts: list[Lists]) -> None:
    assert lists_of(Ragged.concatenate([ragged(part) for part in parts])) == [row for part in parts for row in part]


@pytest.mark.parametrize("index", [None, [2, 0, 2]])
def test_taking_rows_takes_every_column(index: list[int] | None) -> None:
    columns = Columns(
        np.arange(6, dtype=np.int32).reshape(3, 2),
        np.arange(3, dtype=np.float32)[:, None],
        {"tags": ragged([[1], [], [2, 3]], index)},
        np.array([[0], [1], [255]], np.uint8),
        np.array([1, 2, 3], np.float32),
    )
    found = columns.take(np.array([2, 0]))
    assert found.labels is not None and found.weight is not None
    assert found.ids.tolist() == [[4, 5], [0, 1]]
    assert found.numeric.tolist() == [[2], [0]]
    assert lists_of(found.ragged["tags"]) == ([[2, 3], [1]] if index is None else [[2, 3], [2, 3]])
    assert found.labels.tolist() == [[255], [0]]
    assert found.weight.tolist() == [3, 1]
