"""What a test set can show: the smallest difference of two AUCs that a comparison on it would find."""

from __future__ import annotations

import math

from scipy.special import nctdtrinc, ndtri, stdtridf

from funnelcast.evaluation.auc import Interval
from funnelcast.evaluation.spread import quantile


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
