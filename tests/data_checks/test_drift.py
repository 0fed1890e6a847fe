"""Drift: an index with a known value, and what chance does to rows that stand alone or together."""

from __future__ import annotations

import numpy as np
import pytest

from funnelcast.data.columns import Columns
from funnelcast.data_checks.column import bins, edges
from funnelcast.data_checks.feature_drift import Drift, frequent, measure_drift
from funnelcast.data_checks.sample import Sample

Codes = np.ndarray


def sample(rows: int) -> Sample:
    columns = Columns(np.zeros((rows, 1), np.int32), np.zeros((rows, 0), np.float32), {}, np.zeros((rows, 1), np.uint8))
    return Sample("train", columns, np.arange(rows))


def drift(one: Codes, other: Codes) -> Drift:
    found = measure_drift(one, sample(len(one)), other, sample(len(other)), frequent(one, other))
    assert found is not None
    return found


def test_the_index_of_a_shift_is_its_square() -> None:
    """Of normal distributions one apart, ∫ (f - g) ln(f / g) = 1; twenty bins lose little of it."""
    rng = np.random.default_rng(0)
    one, other = rng.normal(0, 1, 60_000), rng.normal(1, 1, 40_000)
    parting = edges(np.concatenate([one, other]), 20)
    found = drift(bins(one, parting), bins(other, parting))
    assert found.is_significant and 0.93 < found.index < 1.0
    assert found.shares.sum(1) == pytest.approx([1, 1])


def test_a_distribution_of_two_values() -> None:
    """.5 and .8: .3 · (ln(.8 / .5) - ln(.2 / .5))."""
    one, other = np.repeat([0, 1], [5000, 5000]), np.repeat([0, 1], [8000, 2000])
    rng = np.random.default_rng(0)
    found = drift(rng.permutation(one), rng.permutation(other))
    assert found.index == pytest.approx(0.3 * np.log(0.8 / 0.5 / (0.2 / 0.5)), abs=2e-3)


@pytest.mark.parametrize("kinds", [2, 30, 300])
def test_chance_is_not_drift(kinds: int) -> None:
    """And it is taken off: the index is 0 on average."""
    found = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        p = rng.dirichlet(np.ones(kinds))
        found.append(drift(*(rng.choice(kinds, rows, p=p) for rows in (4000, 1000))))
    assert not any(each.is_significant for each in found)
    assert abs(np.mean([each.index for each in found])) < 0.01


def test_users_whose_rows_stand_together_are_few_draws() -> None:
    """60 users and 30 others differ by chance, as independent rows would not."""
    found = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        one, other = (np.repeat(rng.integers(0, 3, users), rng.integers(1, 90, users)) for users in (60, 30))
        found.append(drift(one, other))
        is_significant_if_alone = drift(rng.permutation(one), rng.permutation(other)).is_significant
        assert is_significant_if_alone or seed
    assert not any(each.is_significant for each in found)


def test_shares_that_come_and_go_are_no_drift() -> None:
    """As at night, when the test part begins: rows do not come in runs, but stretches of train differ as much."""
    rng, day = np.random.default_rng(0), np.sin(np.arange(4000) * 2 * np.pi / 1000)
    one, night = rng.random(4000) < 0.5 + 0.4 * day, rng.random(500) < 0.9
    found = drift(one.astype(int), night.astype(int))
    assert found.index > 0.5 and not found.is_significant
    assert drift(rng.permutation(one).astype(int), night.astype(int)).is_significant


def test_a_constant_that_changes_is_drift_though_it_is_one_run() -> None:
    found = drift(np.zeros(1000, np.int64), np.ones(500, np.int64))
    assert found.is_significant and found.index > 5


def test_nothing_to_compare() -> None:
    same = np.zeros(1000, np.int64)
    assert measure_drift(same, sample(1000), same, sample(1000), frequent(same, same)) is None
    few = np.arange(15)
    assert measure_drift(few, sample(15), few, sample(15), few) is None


def test_bins_keep_values_that_many_rows_have_apart() -> None:
    numbers = np.array([0.0] * 80 + [1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10] * 2)
    parting = edges(numbers, 10)
    assert parting.tolist() == [0, 5]
    assert np.unique(bins(numbers, parting), return_counts=True)[1].tolist() == [80, 8, 2, 10]
    assert bins(np.array([-1.0, 0, 1, 5, 6]), parting).tolist() == [0, 1, 2, 3, 4]
    assert len(edges(np.zeros(0), 10)) == 0
