"""Smoothed rates: by hand, and strengths that are found again."""

import numpy as np
import pytest

from funnelcast.evaluation.group_priors import RatePrior


def test_a_rate_between_the_groups_own_and_that_of_all() -> None:
    prior = RatePrior(rate=0.04, strength=50.0)
    assert prior.smoothed(0, 0) == pytest.approx(0.04)
    assert prior.smoothed(3, 10) == pytest.approx((3 + 2) / 60)
    assert prior.smoothed(3000, 10_000) == pytest.approx(0.3, abs=0.002)


def test_the_moments_of_two_groups_by_hand() -> None:
    """8 and 2 of 10 rows each: r = 1/2, Σ n (r_g - r)² = 1.8, over r (1 - r) 7.2 = (1 - ρ) 1 + ρ (20 - 10)."""
    labels = np.array([1] * 8 + [0] * 2 + [1] * 2 + [0] * 8, np.uint8)
    prior = RatePrior.fit(labels, np.repeat(["a", "b"], 10))
    share = (7.2 - 1) / 9
    assert prior.rate == 0.5 and prior.strength == pytest.approx(1 / share - 1)


@pytest.mark.parametrize("strength", [5.0, 80.0])
def test_the_strength_of_many_groups_is_found_again(strength: float) -> None:
    rng = np.random.default_rng(1)
    rates, groups = rng.beta(0.1 * strength, 0.9 * strength, 2000), rng.integers(0, 2000, 200_000)
    prior = RatePrior.fit((rng.random(len(groups)) < rates[groups]).astype(np.uint8), groups)
    assert prior.rate == pytest.approx(0.1, abs=0.01) and prior.strength == pytest.approx(strength, rel=0.2)


@pytest.mark.parametrize("positive", [0, 1])
def test_groups_that_do_not_differ_have_one_rate(positive: int) -> None:
    prior = RatePrior.fit(np.full(100, positive, np.uint8), np.arange(100) % 5)
    assert prior.rate == pytest.approx(abs(positive - 0.005)) and prior.strength > 1e5  # half a row of 100 may differ


def test_groups_of_one_row_tell_nothing_of_differences() -> None:
    assert RatePrior.fit(np.arange(100) % 4 == 0, np.arange(100)).strength > 1e5
