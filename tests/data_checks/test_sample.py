"""Rows that are looked at, stretches of them, and shares by stretches."""

from __future__ import annotations

import numpy as np
import pytest

from funnelcast.data.columns import Columns
from funnelcast.data_checks.sample import BLOCK, Sample, by_stretches, evenly_spaced


def sample(rows: int) -> Sample:
    return Sample("train", Columns(np.zeros((rows, 1), np.int32), np.zeros((rows, 0), np.float32)), np.arange(rows))


@pytest.mark.parametrize(("total", "limit"), [(10, 10), (100_000, 100_000), (100_001, 50_000), (3_000_000, 1_000_000)])
def test_blocks_are_spread_evenly(total: int, limit: int) -> None:
    rows = evenly_spaced(total, limit, seed=3)
    assert np.all(np.diff(rows) > 0) and rows[0] >= 0 and rows[-1] < total
    assert limit - BLOCK <= len(rows) <= limit
    assert np.array_equal(rows, evenly_spaced(total, limit, seed=3))
    shares = np.histogram(rows, bins=10, range=(0, total))[0] / len(rows)
    assert np.all(np.abs(shares - 0.1) < 0.03) or total == 10


def test_stretches_are_of_neighbours_and_of_one_size() -> None:
    for rows, stretches in ((1, 1), (19, 1), (20, 2), (399, 39), (5000, 40)):
        found = sample(rows)
        assert found.stretches == stretches
        assert np.array_equal(np.unique(found.stretch), np.arange(stretches)) and np.all(np.diff(found.stretch) >= 0)
        assert np.ptp(np.bincount(found.stretch)) <= 1


def test_the_error_of_a_share_knows_of_users() -> None:
    """Of 100 users with 50 rows each, of whom each always clicks or never does: 100 draws, not 5,000."""
    rng, everywhere = np.random.default_rng(0), np.ones(5000, bool)
    users = np.repeat(rng.random(100) < 0.3, 50)
    clumped, alone = (by_stretches(sample(5000), hits, everywhere) for hits in (users, rng.permutation(users)))
    assert clumped.value == pytest.approx(users.mean()) and alone.value == pytest.approx(users.mean())
    binomial = np.sqrt(users.mean() * (1 - users.mean()) / 5000)
    assert clumped.error == pytest.approx(binomial * np.sqrt(50), rel=0.3)
    assert alone.error == pytest.approx(binomial, rel=0.4) and alone.error >= binomial
    assert clumped.low == pytest.approx(clumped.value - 1.96 * clumped.error)
