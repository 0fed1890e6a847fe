"""Exponentials in a loop against numpy's in float64."""

import numpy as np
import pytest

from funnelcast.layers.exponentials import LEAST, exponentiate


@pytest.mark.parametrize("size", [0, 1, 7, 1_000, 100_000])
def test_to_one_unit_in_the_last_place(size: int) -> None:
    x = -np.random.default_rng(size).exponential(12, size).astype(np.float32).clip(0, -LEAST)
    found = x.copy()
    exponentiate(found)
    np.testing.assert_allclose(found, np.exp(x.astype(np.float64)), rtol=2.0**-23)


def test_every_part_of_an_octave() -> None:
    """Where the polynomial is farthest from what it stands for, and the ends."""
    x = np.concatenate([-np.linspace(0, 3, 30_001), [-86.99999]]).astype(np.float32)
    found = x.copy()
    exponentiate(found)
    np.testing.assert_allclose(found, np.exp(x.astype(np.float64)), rtol=2.0**-23)
    assert found[0] == 1


def test_what_is_far_below_is_0_and_what_is_no_number_stays() -> None:
    found = np.array([np.nextafter(LEAST, np.float32(-100)), -1e30, -np.inf, np.nan, LEAST], np.float32)
    exponentiate(found)
    assert found[:3].tolist() == [0, 0, 0] and np.isnan(found[3]) and 0 < found[4] < 1e-37
