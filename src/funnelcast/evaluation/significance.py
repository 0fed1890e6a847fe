"""P values of several comparisons with Holm's correction, and the smallest difference that a test set can show."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import nctdtrinc, ndtri, stdtr, stdtridf

from funnelcast.evaluation.auc import Interval
from funnelcast.evaluation.rows import Floats
from funnelcast.evaluation.standard_errors import quantile


def p_value(interval: Interval, level: float = 0.95) -> float:
    """Two-sided p value, in [0, 1], of a true difference of 0, of a difference's interval that was made at `level`.

    It agrees with the interval: at level 1 - p its nearer end would be 0. For intervals estimate ± t · std_error, of
    any degrees of freedom, which their half width tells, and not for a single AUC, which differs from 0 as a matter of
    course. NaN where there is no interval, or no spread to measure a difference by; without spread 1 for no difference.
    """
    estimate, low, high, error, _ = interval
    if math.isnan(low):
        return math.nan
    if error < 1e-15:
        return 1.0 if abs(estimate) < 1e-15 else math.nan
    freedom = stdtridf((1 + level) / 2, max(high - estimate, estimate - low) / error)  # the wider: ends are cut at ±1
    return float(2 * stdtr(freedom, -abs(estimate) / error))


def holm(p_values: Floats) -> Floats:
    """Adjusted p values (M,) of p values (M,) in [0, 1]: those <= α are significant, with one wrong at most α in all.

    Holm's (1979) step-down procedure, valid however the comparisons depend on each other: the i-th smallest of m counts
    (m - i + 1) times, and no less than the smaller ones. A NaN stays NaN and is no comparison. Raises ValueError for
    others out of range.
    """
    given = np.asarray(p_values, np.float64)
    known = np.flatnonzero(~np.isnan(given))
    if given.ndim != 1 or np.any((given[known] < 0) | (given[known] > 1)):
        raise ValueError(f"p values must be (M,) in [0, 1], got {given.shape} with {given[known].tolist()}")
    order = known[np.argsort(given[known])]
    steps = given[order] * np.arange(len(order), 0, -1)
    adjusted = np.full(len(given), math.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def smallest_difference(std_error: float, freedom: float = math.inf, level: float = 0.95, power: float = 0.8) -> float:
    """Least true difference whose interval at `level` leaves 0 out, on its own side, with probability `power`.

    std_error >= 0 of the difference, as `auc_difference`, `over_seeds` and `rows_and_seeds` have it, in its unit;
    freedom > 0 of the interval's t, S - 1 over S seeds; level and power in (0, 1). The truth is about repetitions of
    the whole comparison: std_error (z_(1+level)/2 + z_power), or by the noncentral t where freedom is finite. It takes
    std_error as known. NaN stays NaN.
    """
    edge = quantile(level, freedom)
    if math.isinf(freedom):
        return std_error * (edge + float(ndtri(power)))
    return std_error * float(nctdtrinc(freedom, 1 - power, edge))


def smallest_of(found: Interval, level: float = 0.95, power: float = 0.8) -> float:
    """`smallest_difference` of a difference's interval that was made at `level`, with the degrees of freedom that its
    half width tells, as in `p_value`. NaN where there is no interval, 0 without spread.
    """
    estimate, low, high, error, _ = found
    if math.isnan(low) or error < 1e-15:
        return math.nan if math.isnan(low) else 0.0
    freedom = stdtridf((1 + level) / 2, max(high - estimate, estimate - low) / error)  # the wider: ends are cut at ±1
    return smallest_difference(error, float(freedom), level, power)
