"""Hashes of rows: equal for equal rows, stored in whatever way, and for no others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from funnelcast.data.columns import Columns, Ragged
from funnelcast.data_checks import hashing
from funnelcast.data_checks.hashing import RowHasher, combinations, of_lists


def ragged(lists: list[list[int]], weights: list[list[float]] | None = None, index: list[int] | None = None) -> Ragged:
    flat = np.array([each for own in lists for each in own], np.int32)
    offsets = np.concatenate([[0], np.cumsum([len(own) for own in lists])]).astype(np.int64)
    of_ids = None if weights is None else np.array([each for own in weights for each in own], np.float32)
    return Ragged(offsets, flat, of_ids, None if index is None else np.array(index, np.int32))


def columns(ids: Any, numeric: Any, **lists: Ragged) -> Columns:
    n = len(ids)
    return Columns(
        np.array(ids, np.int32), np.array(numeric, np.float32).reshape(n, -1), lists, np.zeros((n, 1), np.uint8)
    )


def test_rows_are_equal_where_all_their_columns_are() -> None:
    lists = ragged([[1, 2], [2, 1], [1, 2], [1, 2], [], []])
    rows = columns([[1, 2], [1, 2], [1, 2], [2, 1], [1, 2], [1, 2]], [0.0, 0, -0.0, 0, 0, 1], x=lists)
    a, b, c, d, e, f = RowHasher(rows, frozenset({"x"})).features(0, 6).tolist()
    assert a == c and len({a, b, d, e, f}) == 5
    assert RowHasher(rows, frozenset({"x"})).features(2, 5).tolist() == [c, d, e]
    a, b, *_ = RowHasher(rows, frozenset()).features(0, 6).tolist()
    assert a == b, "without an order"


def test_lists_of_other_weights_differ() -> None:
    a, b, c = of_lists(ragged([[1, 2], [1, 2], [2, 1]], [[1, 2], [2, 1], [2, 1]]), ordered=False).tolist()
    assert a == c != b


def test_shared_lists_are_as_those_of_their_rows() -> None:
    shared, index = [[5, 6], [], [7]], [2, 0, 0, 1, 2]
    of_rows = columns([[1]] * 5, [0.0] * 5, x=ragged([shared[i] for i in index]))
    by_index = columns([[1]] * 5, [0.0] * 5, x=ragged(shared, index=index))
    hashes = [RowHasher(rows, frozenset({"x"})).features(1, 5).tolist() for rows in (of_rows, by_index)]
    assert hashes[0] == hashes[1]


def test_any_number_of_lists_is_hashed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lists = ragged([list(range(n)) for n in (3, 0, 0, 9, 1, 2, 0)])
    whole = of_lists(lists, ordered=True)
    monkeypatch.setattr(hashing, "_IDS", 4)
    assert of_lists(lists, ordered=True).tolist() == whole.tolist()
    assert len(of_lists(ragged([]), ordered=True)) == 0


@pytest.mark.slow
def test_a_hundred_thousand_rows_have_as_many_hashes() -> None:
    ids = np.stack(np.unravel_index(np.arange(100_000), (10, 100, 100)), 1)
    rows = columns(ids, np.zeros(100_000), x=ragged([[row % 7, row % 3] for row in range(100_000)]))
    hashes = RowHasher(rows, frozenset()).features(0, 100_000)
    assert len(np.unique(hashes)) == 100_000
    ones = np.unpackbits(hashes.view(np.uint8)).mean()
    assert abs(ones - 0.5) < 0.002


def test_combinations_of_labels() -> None:
    labels = np.array([[0, 0], [1, 0], [1, 1], [0, 255], [255, 0]], np.uint8)
    assert len(set(combinations(labels).tolist())) == 5
