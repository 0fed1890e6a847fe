"""Repeated splits: what is in them, and the interval of their mean by hand."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from funnelcast.errors import ComparisonError
from funnelcast.evaluation.repeated_splits import repeated_splits, resampled_interval


def funnel(rows: int = 200) -> NDArray[np.uint8]:
    """(rows, 3) of a chain: 3 in 10 clicked, 1 in 10 had it in the cart, 7 rows bought, which some do not tell."""
    depth = np.zeros(rows, int)
    depth[: rows * 3 // 10], depth[: rows // 10], depth[:7] = 1, 2, 3
    depth = np.random.default_rng(0).permutation(depth)
    labels = (depth[:, None] > np.arange(3)).astype(np.uint8)
    labels[depth == 0, 2] = 255
    return labels


def test_interval_by_hand() -> None:
    """s² = 2.5, (1 / 5 + 1 / 4) s² = 1.125; the 97.5 % quantile with 4 degrees of freedom is 2.7764451."""
    found = resampled_interval(np.array([1.0, 2, 3, 4, 5]), test_share=0.2)
    assert found.estimate == 3 and found.std_error == pytest.approx(1.125**0.5)
    assert (found.low, found.high) == pytest.approx((3 - 2.7764451 * 1.125**0.5, 3 + 2.7764451 * 1.125**0.5))
    assert found.note == ""


def test_undefined_splits_are_left_out_and_counted() -> None:
    found = resampled_interval(np.array([1.0, math.nan, 2, 3, 4, 5]), test_share=0.2)
    assert found[:4] == resampled_interval(np.array([1.0, 2, 3, 4, 5]), test_share=0.2)[:4]
    assert found.note == "1 of 6 splits undefined"


@pytest.mark.parametrize(
    ("values", "mean", "note"),
    [
        ([], math.nan, "under 2 splits: no interval"),
        ([0.3], 0.3, "under 2 splits: no interval"),
        ([math.nan, 0.3], 0.3, "1 of 2 splits undefined, under 2 splits: no interval"),
    ],
)
def test_no_interval(values: list[float], mean: float, note: str) -> None:
    found = resampled_interval(np.array(values), 0.5)
    assert found.estimate == pytest.approx(mean, nan_ok=True) and math.isnan(found.low) and found.note == note


@pytest.mark.parametrize("share", [0.1, 1 / 3, 0.8])
def test_every_row_is_in_one_part_and_the_share_is_tested(share: float) -> None:
    for train, test in repeated_splits(101, 5, share):
        assert sorted([*train, *test]) == list(range(101))
        assert abs(len(test) - share * 101) < 1
        assert (np.diff(train) > 0).all() and (np.diff(test) > 0).all()


def test_every_row_is_tested_as_often() -> None:
    counts = np.bincount(np.concatenate([test for _, test in repeated_splits(40, 3000, 0.25)]), minlength=40)
    assert counts / 3000 == pytest.approx(np.full(40, 0.25), abs=4.5 * (0.25 * 0.75 / 3000) ** 0.5)


def test_pairs_are_tested_together_as_often_as_in_a_simple_random_sample() -> None:
    both = np.zeros((12, 12))
    for _, test in repeated_splits(12, 4000, 0.25):
        both[np.ix_(test, test)] += 1 / 4000
    assert both[~np.eye(12, dtype=bool)] == pytest.approx(np.full(132, 3 / 12 * 2 / 11), abs=0.015)


@pytest.mark.parametrize("share", [0.2, 0.35])
def test_depths_of_the_funnel_are_tested_alike(share: float) -> None:
    labels = funnel()
    depth = (labels == 1).sum(1)
    whole = np.bincount(depth)
    assert whole.tolist() == [140, 40, 13, 7]
    tested = np.array(
        [np.bincount(depth[test], minlength=4) for _, test in repeated_splits(200, 400, share, labels=labels)]
    )
    assert (np.abs(tested - share * whole) < 1).all()
    assert tested.mean(0) == pytest.approx(share * whole, abs=0.12)
    plain = [np.bincount(depth[test], minlength=4)[3] for _, test in repeated_splits(200, 20, share)]
    assert np.ptp(plain) > 1


def test_groups_stay_whole_and_are_tested_by_their_deepest_row() -> None:
    labels = funnel()
    groups = np.array([f"user {number}" for number in np.random.default_rng(1).integers(0, 60, 200)])
    names = np.unique(groups)
    deepest = np.array([(labels[groups == name] == 1).sum(1).max() for name in names])
    for train, test in repeated_splits(200, 20, 0.3, labels=labels, groups=groups):
        tested = np.isin(names, groups[test])
        assert not set(groups[train]) & set(groups[test])
        assert (np.abs(np.bincount(deepest[tested], minlength=4) - 0.3 * np.bincount(deepest)) < 1).all()


def test_splits_depend_on_seed_and_place_alone() -> None:
    few, many = repeated_splits(50, 2, 0.2, seed=7), repeated_splits(50, 4, 0.2, seed=7)
    tests = [test.tolist() for _, test in many]
    assert [test.tolist() for _, test in few] == tests[:2] and len({tuple(test) for test in tests}) == 4
    assert tests[0] != repeated_splits(50, 1, 0.2, seed=8)[0].test.tolist()


def test_what_cannot_be_split_is_refused() -> None:
    for share in (0.0, 1.0, -0.2, math.nan):
        with pytest.raises(ComparisonError, match=r"give one in \(0, 1\)"):
            repeated_splits(10, 1, share)
        with pytest.raises(ComparisonError, match=r"give one in \(0, 1\)"):
            resampled_interval(np.ones(3), share)
    with pytest.raises(ComparisonError, match=r"\(3, 1\).*one per split"):
        resampled_interval(np.ones((3, 1)), 0.5)
    with pytest.raises(ComparisonError, match=r"\(9, 2\), \(10,\).* for 10 rows"):
        repeated_splits(10, 1, 0.5, labels=np.ones((9, 2)), groups=np.ones(10))
    with pytest.raises(ComparisonError, match="for 10 rows"):
        repeated_splits(10, 1, 0.5, groups=np.ones((10, 1)))
    with pytest.raises(ComparisonError, match="3 groups with a test share of 0.2"):
        repeated_splits(12, 1, 0.2, groups=np.arange(12) % 3)
    with pytest.raises(ComparisonError, match="0 rows"):
        repeated_splits(0, 1, 0.2)
    assert len(repeated_splits(10, 1, 0.9)[0].train) == 1
