"""Grouped AUC against one slow AUC per group."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from funnelcast.evaluation.groups import grouped_auc

Array = NDArray[Any]


def slow(y: Array, s: Array, w: Array) -> float:
    """AUC by all pairs; NaN if a class is missing."""
    wins = pairs = 0.0
    for i in np.flatnonzero(y == 1):
        for j in np.flatnonzero(y == 0):
            wins += w[i] * w[j] * (1.0 if s[i] > s[j] else 0.5 if s[i] == s[j] else 0.0)
            pairs += w[i] * w[j]
    return wins / pairs if pairs else math.nan


def test_by_hand() -> None:
    y = np.array([1, 0, 0, 1, 0, 1, 1, 0], np.uint8)
    s = np.array([0.9, 0.1, 0.9, 0.1, 0.2, 0.7, 0.8, 0.5])
    groups = np.array(["b", "b", "b", "a", "a", "c", "c", "d"])
    got = grouped_auc(y, s, groups)
    assert got.groups.tolist() == ["a", "b", "c", "d"]
    np.testing.assert_allclose(got.auc, [0, 0.75, math.nan, math.nan])
    assert got.rows.tolist() == [2, 3, 2, 1] and got.positives.tolist() == [1, 1, 2, 0]
    assert got.has_both.tolist() == [True, True, False, False]
    assert (got.usable, got.total) == (2, 4)
    assert got.gauc == pytest.approx((2 * 0 + 3 * 0.75) / 5)


@pytest.mark.parametrize("names", [np.int64, np.int32, str, object])
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_each_group_alone(names: type, weighted: bool) -> None:
    rng = np.random.default_rng(1)
    y, s = rng.integers(0, 2, 400).astype(np.uint8), rng.normal(size=400).round(1).astype(np.float32)
    numbers = rng.integers(-40, 40, 400)
    groups = numbers.astype(str).astype(object) if names is object else numbers.astype(names)
    w = rng.integers(0, 3, 400).astype(float) if weighted else np.ones(400)
    got = grouped_auc(y, s, groups, w if weighted else None)
    parts = [groups == name for name in got.groups]
    each = [slow(y[part], s[part], w[part]) for part in parts]
    np.testing.assert_allclose(got.auc, each, atol=1e-10)
    impressions = [w[part].sum() for part, value in zip(parts, each, strict=True) if not math.isnan(value)]
    assert got.gauc == pytest.approx(np.average([v for v in each if not math.isnan(v)], weights=impressions), abs=1e-10)
    assert got.rows.sum() == 400 and got.positives.sum() == y.sum() and got.total == len(set(groups.tolist()))


def test_no_usable_group_has_no_mean() -> None:
    got = grouped_auc(np.array([1, 0], np.uint8), np.array([0.1, 0.2]), np.array([1, 2]))
    assert math.isnan(got.gauc) and np.isnan(got.auc).all() and (got.usable, got.total) == (0, 2)
    empty = grouped_auc(np.zeros(0, np.uint8), np.zeros(0), np.zeros(0, np.int64))
    assert math.isnan(empty.gauc) and (empty.usable, empty.total) == (0, 0)


def test_a_nan_score_spoils_its_group_only() -> None:
    y, s = np.array([1, 0, 1, 0], np.uint8), np.array([math.nan, 0.2, 0.3, 0.2])
    got = grouped_auc(y, s, np.array([1, 1, 2, 2]))
    assert math.isnan(got.auc[0]) and got.auc[1] == 1 and math.isnan(got.gauc)
    spoilt_negative = grouped_auc(y, s[[1, 0, 2, 3]], np.array([1, 1, 2, 2]))
    assert math.isnan(spoilt_negative.auc[0]) and spoilt_negative.auc[1] == 1


def test_rows_must_match() -> None:
    with pytest.raises(ValueError, match="alike"):
        grouped_auc(np.array([1, 0], np.uint8), np.array([0.1, 0.2]), np.array([1]))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=30))
def test_shifting_a_whole_group_changes_nothing(rows: list[tuple[bool, int, int]]) -> None:
    y, s, groups = (np.array(column) for column in zip(*rows, strict=True))
    got, shifted, flipped = (
        grouped_auc(y, s.astype(float), groups),
        grouped_auc(y, s + 10.0 * groups, groups),
        grouped_auc(~y, s.astype(float), groups),
    )
    np.testing.assert_array_equal(got.auc, shifted.auc)
    np.testing.assert_allclose(got.auc, 1 - flipped.auc, atol=1e-12)


def test_light_groups_beside_heavy_ones_keep_their_auc() -> None:
    heavy = 100_000
    labels = np.append(np.arange(heavy) % 2, [0, 1]).astype(np.uint8)
    scores, groups = np.append(np.zeros(heavy), [0.0, 1]), np.append(np.zeros(heavy, int), [1, 1])
    found = grouped_auc(labels, scores, groups, np.append(np.full(heavy, 1000.0), [1e-9, 1e-9]))
    np.testing.assert_allclose(found.auc, [0.5, 1], rtol=1e-9)
