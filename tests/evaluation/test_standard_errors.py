"""Quantiles and spread of two-sample means, against scipy.stats and by hand."""

import math

import numpy as np
import pytest
from scipy.stats import kurtosis, norm, t

from funnelcast.evaluation.standard_errors import effective_rows, logit_interval, quantile, summarise, welch, wilson


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("freedom", [1, 2, 3, 4.7, 9, 199, 1e6, math.inf])
def test_quantiles_are_students(level: float, freedom: float) -> None:
    slow = norm if math.isinf(freedom) else t(freedom)
    assert quantile(level, freedom) == pytest.approx(slow.ppf((1 + level) / 2), rel=1e-9)


def test_quantiles_of_a_table() -> None:
    assert [quantile(0.95, freedom) for freedom in (1, 2, 4)] == pytest.approx([12.7062, 4.30265, 2.77645], rel=1e-5)
    assert quantile(0.95) == pytest.approx(1.959963984540054, abs=1e-14)


def test_effective_rows_are_kishs() -> None:
    assert effective_rows(np.full(7, 0.3)) == pytest.approx(7)
    assert effective_rows(np.array([3.0, 1, 0])) == pytest.approx(1.6)


def test_welchs_freedom_by_hand() -> None:
    """Variances 1 / 3 and 25 / 2: (77 / 6)² / ((1 / 3)² / 2 + 12.5² / 1)."""
    found = summarise(np.array([1.0, 2, 3]), np.array([0.0, 5 * 2**0.5]), np.ones(3), np.ones(2))
    assert found.error**2 == pytest.approx(1 / 3 + 12.5)
    assert found.freedom == pytest.approx((1 / 3 + 12.5) ** 2 / (1 / 18 + 12.5**2))
    assert found.mean == 2 and found.sizes == pytest.approx((3, 2))


def test_freedom_of_tails_is_two_sizes_over_kurtosis_less_one() -> None:
    rng = np.random.default_rng(0)
    heavy, light = rng.exponential(size=40) ** 2, rng.random(30)
    found = summarise(heavy, light, np.ones(40), np.full(30, 0.5))
    parts = heavy.var(ddof=1) / 40, light.var(ddof=1) / 30
    tails = 80 / (kurtosis(heavy, fisher=False) - 1)
    assert found.error**2 == pytest.approx(sum(parts)) and tails < 39
    assert found.freedom == pytest.approx(sum(parts) ** 2 / (parts[0] ** 2 / 39 + parts[1] ** 2 / 29))
    assert found.freedom_of_tails == pytest.approx(sum(parts) ** 2 / (parts[0] ** 2 / tails + parts[1] ** 2 / 29))


def test_freedom_of_tails_is_what_the_variance_varies_by() -> None:
    """A variance of f degrees of freedom has the squared coefficient of variation 2 / f."""
    rng = np.random.default_rng(1)
    drawn = rng.random((4_000, 300)) ** 4
    w = rng.uniform(0.5, 1.5, 300)
    share = w / w.sum()
    variances = ((share * (drawn - (drawn @ share)[:, None])) ** 2).sum(1)
    flat = np.zeros(2)
    freedoms = [summarise(row, flat, w, np.ones(2)).freedom_of_tails for row in drawn[:200]]
    assert np.mean(freedoms) == pytest.approx(2 / (variances.std() / variances.mean()) ** 2, rel=0.1)


def test_welch_leaves_out_what_does_not_vary() -> None:
    assert welch([2.0, 0.0], [7, 0]) == pytest.approx(7)
    assert welch([0.0], [1]) == welch([], []) == welch([math.nan, 1.0], [math.nan, 2]) == math.inf


def test_the_logit_scale_by_hand() -> None:
    low, high = logit_interval(0.8, 0.16)
    logits = [math.log(p / (1 - p)) for p in (low, high)]
    assert logits == pytest.approx([math.log(4) - 1, math.log(4) + 1])


def test_wilson() -> None:
    """Against Brown, Cai and DasGupta's formula in numbers: 0 of 10 and 15 of 50."""
    assert wilson(0.0, 10) == pytest.approx((0, 0.27753), abs=1e-4)
    assert wilson(0.3, 50) == pytest.approx((0.19104, 0.43750), abs=1e-3)
