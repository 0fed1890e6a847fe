"""How often independent rows repeat: distributions with a known answer, and copies that break the rule."""

from __future__ import annotations

from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funnelcast.data_checks.duplicates import excess_repeats


def counts(values: np.ndarray) -> np.ndarray:
    return np.unique(values, return_counts=True)[1]


def test_the_rule_is_tight_for_values_that_are_equally_frequent() -> None:
    """f_k ∝ λ^k / k! makes both sides equal: counts at it are within the margin, three times as many pairs are not."""
    f = {k: round(1e6 * 0.5**k / factorial(k)) for k in range(1, 7)}
    drawn = np.repeat(list(f), list(f.values()))
    assert excess_repeats(drawn) is None
    found = excess_repeats(np.concatenate([drawn, np.full(2 * f[2], 2)]))
    assert found is not None and found.times == 2 and found.values == 3 * f[2]
    assert found.most == pytest.approx(2 * f[2], rel=0.02)
    assert found.excess == 2 * (found.values - found.most)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1.1, 1.5, 2.5]), st.integers(1, 3000), st.integers(1, 4000))
def test_independent_rows_of_any_distribution_keep_it(seed: int, power: float, kinds: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.permutation(np.arange(1, kinds + 1.0)) ** -power
    assert excess_repeats(counts(rng.choice(kinds, rows, p=p / p.sum()))) is None


@pytest.mark.parametrize("times", [2, 3, 5])
def test_copies_break_it(times: int) -> None:
    """Every row several times; a third of the rows; and what a random split leaves of them."""
    rng, rows = np.random.default_rng(0), np.arange(4000)
    found = excess_repeats(counts(np.repeat(rows, times)))
    assert found is not None and (found.times, found.values) == (times, 4000)
    assert excess_repeats(counts(np.concatenate([rows, np.repeat(rows[:1300], times - 1)]))) is not None
    assert excess_repeats(counts(rng.permutation(np.repeat(rows, times))[: 7 * 400 * times])) is not None
