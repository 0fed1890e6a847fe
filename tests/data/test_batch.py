"""Batches and their lists against plain Python lists, and against the same rows of `Columns`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from funnelcast.data.batch import Batch, Lists
from funnelcast.data.columns import UNOBSERVED, Columns, Ragged

LISTS = [[3], [], [1, 2, 2], [0], [], [4, 4, 1, 0]]
INDEXES: dict[str, list[int] | None] = {"own lists": None, "shared lists": [5, 0, 0, 1, 5, 2, 4]}


def ragged(index: list[int] | None = None, weighted: bool = True, lists: list[list[int]] = LISTS) -> Ragged:
    """The weight of an id is half of it."""
    ids = np.array([i for row in lists for i in row], np.int32)
    shared = None if index is None else np.array(index, np.int32)
    weights = (ids / 2).astype(np.float32) if weighted else None
    return Ragged(np.cumsum([0, *map(len, lists)], dtype=np.int64), ids, weights, shared)


def plain(lists: Lists) -> list[list[int]]:
    """Row by row; each has its own list, and weights that belong to its ids."""
    assert lists.index is None and lists.offsets[0] == 0 and len(lists) == len(lists.offsets) - 1
    assert (lists.offsets.dtype, lists.ids.dtype) == (torch.int64, torch.int32)
    assert lists.weights is None or torch.equal(lists.weights * 2, lists.ids.float())
    return [lists.ids[a:b].tolist() for a, b in zip(lists.offsets[:-1], lists.offsets[1:], strict=True)]


def rows_of(index: list[int] | None) -> list[list[int]]:
    return LISTS if index is None else [LISTS[i] for i in index]


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES.keys())
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_take(index: list[int] | None, weighted: bool, data: st.DataObject) -> None:
    lists, expected = Lists.of(ragged(index, weighted)), rows_of(index)
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=9))
    taken = lists.take(torch.tensor(rows, dtype=torch.int64))
    assert plain(taken) == [expected[row] for row in rows]
    assert (taken.weights is not None) == weighted and len(lists) == len(expected)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES.keys())
def test_slice(index: list[int] | None, weighted: bool) -> None:
    lists, expected = Lists.of(ragged(index, weighted)), rows_of(index)
    for start in range(len(expected) + 1):
        for stop in range(start, len(expected) + 1):
            part = lists.slice(start, stop)
            assert plain(part) == expected[start:stop] and (part.weights is not None) == weighted


def test_own_lists_are_sliced_without_a_copy() -> None:
    held = ragged()
    part = Lists.of(held).slice(2, 4)
    assert part.weights is not None and held.weights is not None
    assert part.ids.data_ptr() == held.ids[1:].ctypes.data
    assert part.weights.data_ptr() == held.weights[1:].ctypes.data


def columns(index: list[int] | None = None, bare: bool = False) -> Columns:
    """Row i has id i, number i / 2, weight i, and list i or one of its index."""
    rows = len(rows_of(index))
    i, labels = np.arange(rows), np.array([[0, 1, UNOBSERVED][n % 3] for n in range(rows)], np.uint8)
    lists = {"tags": ragged(index), "seen": ragged(index, weighted=False)}
    ids, numeric = np.stack([i, i + 10], 1).astype(np.int32), (i[:, None] / 2).astype(np.float32)
    if bare:
        return Columns(ids, numeric, lists)
    return Columns(ids, numeric, lists, labels[:, None], i.astype(np.float32))


def same(a: Batch, b: Batch) -> bool:
    """Number by number, with the types of each."""
    assert a.lists.keys() == b.lists.keys()
    ours, theirs = (tensors(batch) for batch in (a, b))
    return all(
        (x is None) == (y is None) and (x is None or y is None or (x.dtype == y.dtype and torch.equal(x, y)))
        for x, y in zip(ours, theirs, strict=True)
    )


def tensors(batch: Batch) -> list[Tensor | None]:
    parts = [batch.ids, batch.numeric, batch.labels, batch.weight]
    for lists in batch.lists.values():
        parts += [lists.offsets, lists.ids, lists.weights, lists.index]
    return parts


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES.keys())
def test_rows_taken_are_those_taken_of_the_columns(index: list[int] | None, bare: bool) -> None:
    held = columns(index, bare)
    for rows in ([], [4], [5, 0, 0, 3], list(range(len(held)))):
        taken = Batch.of(held).take(torch.tensor(rows, dtype=torch.int64))
        assert same(taken, Batch.of(held.take(np.array(rows, np.int64)))) and len(taken) == len(rows)
        assert plain(taken.lists["tags"]) == plain(taken.lists["seen"]) == [rows_of(index)[row] for row in rows]


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES.keys())
def test_rows_of_a_slice_are_those_taken(index: list[int] | None, bare: bool) -> None:
    batch = Batch.of(columns(index, bare))
    for start, stop in ((0, 0), (0, 3), (2, 5), (4, 99), (0, 99)):
        taken = batch.take(torch.arange(start, min(stop, len(batch))))
        assert same(batch.slice(start, stop), taken)
    assert batch.slice(2, 5).ids.data_ptr() == batch.ids[2:].data_ptr()
    assert batch.slice(2, 5).numeric.data_ptr() == batch.numeric[2:].data_ptr()


@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES.keys())
def test_a_slice_of_a_slice(index: list[int] | None) -> None:
    batch = Batch.of(columns(index))
    assert same(batch.slice(1, 6).slice(2, 4), batch.slice(3, 5))


@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES.keys())
def test_a_whole_part_shares_the_memory_of_its_columns(index: list[int] | None) -> None:
    held = columns(index)
    batch, lists = Batch.of(held), held.ragged["tags"]
    assert len(batch) == len(held) and held.labels is not None and held.weight is not None
    arrays: list[NDArray[Any] | None] = [
        held.ids,
        held.numeric,
        held.labels,
        held.weight,
        lists.offsets,
        lists.ids,
        lists.weights,
        lists.index,
    ]
    for tensor, array in zip(tensors(batch), arrays, strict=False):
        assert (tensor is None) == (array is None)
        assert tensor is None or array is None or tensor.data_ptr() == array.ctypes.data


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES.keys())
def test_a_batch_goes_to_a_device_whole(index: list[int] | None, bare: bool) -> None:
    """Shared lists stay shared: without their index they would be other rows' lists."""
    batch = Batch.of(columns(index, bare))
    assert same(batch.to(torch.device("cpu")), batch)
    there = batch.to(torch.device("meta"))
    assert all(tensor is None or tensor.device.type == "meta" for tensor in tensors(there))
    assert [t is None for t in tensors(there)] == [t is None for t in tensors(batch)]
    assert [len(lists) for lists in there.lists.values()] == [len(batch)] * 2
