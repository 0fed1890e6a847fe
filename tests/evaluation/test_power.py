"""What a test set can show, against simulated comparisons."""

import math

import numpy as np
import pytest
from scipy.stats import t

from funnelcast.evaluation.auc import Interval
from funnelcast.evaluation.repeated_splits import resampled_interval
from funnelcast.evaluation.significance import smallest_difference, smallest_of


def test_the_usual_2_8_errors() -> None:
    assert smallest_difference(0.01) == pytest.approx(0.01 * (1.959964 + 0.841621), rel=1e-6)
    assert smallest_difference(0.01, level=0.9, power=0.95) == pytest.approx(0.01 * 2 * 1.644854, rel=1e-6)
    assert math.isnan(smallest_difference(math.nan)) and smallest_difference(0) == 0


@pytest.mark.parametrize("freedom", [2, 4, 30])
def test_power_with_few_degrees_of_freedom_by_simulation(freedom: int) -> None:
    rng = np.random.default_rng(freedom)
    error = np.sqrt(rng.chisquare(freedom, 400_000) / freedom)
    estimate = smallest_difference(1.0, freedom) + rng.normal(size=400_000)
    assert np.mean(estimate > t.ppf(0.975, freedom) * error) == pytest.approx(0.8, abs=0.003)


def test_of_an_interval_it_has_its_degrees_of_freedom() -> None:
    differences = np.array([0.01, 0.03, 0.02, 0.05, 0.02])
    found = resampled_interval(differences, 0.2)
    assert smallest_of(found) == pytest.approx(smallest_difference(found.std_error, 4), rel=1e-5)
    assert smallest_of(found) == pytest.approx(3.76106 * found.std_error, rel=1e-5)
    cut = Interval(0.99, 0.99 - 1.959964 * 0.02, 1.0, 0.02)
    assert smallest_of(cut) == pytest.approx(smallest_difference(0.02), rel=1e-5)


def test_of_no_interval_nothing_is_known() -> None:
    assert math.isnan(smallest_of(Interval(0.1, math.nan, math.nan, 0.2))) and smallest_of(Interval(0, 0, 0, 0)) == 0
