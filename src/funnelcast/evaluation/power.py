"""What a test set can show: the smallest difference of two AUCs that a comparison on it would find."""

from __future__ import annotations

import math

from scipy.special import nctdtrinc, ndtri, owens_t, stdtridf

from funnelcast.errors import ComparisonError
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


def planned_error(positives: int, negatives: int, auc: float, correlation: float) -> float:
    """Standard error of the difference of two AUCs on rows yet to be scored, for models of about the same AUC.

    positives, negatives >= 1 rows; auc in (0, 1); correlation in [-1, 1] of the two models' scores within a class.
    Scores are normal in either class, with one covariance, after some increasing transformation each (exactly so for
    calibrated logits that are normal among the negatives of a rare step). Then with h = Φ⁻¹(auc) the covariance of two
    AUCs is (Φ₂(h, h; correlation / 2) - auc²) (1 / positives + 1 / negatives), the variance of one that at correlation
    1, and Φ₂ the bivariate normal distribution, here by Owen's (1956) T. Hanley & McNeil (1983) have a table for it.
    Raises ComparisonError for values out of range.
    """
    if positives < 1 or negatives < 1 or not 0 < auc < 1 or not -1 <= correlation <= 1:
        raise ComparisonError(
            f"{positives} positives, {negatives} negatives, AUC {auc} and correlation {correlation} are no comparison "
            "to plan; give 1 row or more of either class, an AUC in (0, 1) and a correlation in [-1, 1]"
        )
    h = float(ndtri(auc))
    apart, same = (float(owens_t(h, math.sqrt((2 - r) / (2 + r)))) for r in (correlation, 1.0))
    return math.sqrt(4 * max(0.0, apart - same) * (1 / positives + 1 / negatives))


def power_note(std_error: float, positives: int, level: float = 0.95, power: float = 0.8) -> str:
    """One line on `smallest_difference` of AUC for the paired std_error of a test set with so many positives."""
    least = smallest_difference(std_error, level=level, power=power)
    if not least > 0:
        return f"without a standard error it is not known what these {positives:,} positives can tell apart"
    shown = f"{least:.{max(4, 1 - math.floor(math.log10(least)))}f}".removeprefix("0")
    return f"differences under {shown} are not to be told apart on these {positives:,} positives"
