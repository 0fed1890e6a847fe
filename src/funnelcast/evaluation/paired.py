"""Means over groups or rows that were drawn alike, and paired differences, with intervals by Student's t."""

from __future__ import annotations

import math

import numpy as np

from funnelcast.evaluation.auc import TOO_FEW as TOO_FEW_ROWS
from funnelcast.evaluation.auc import Interval
from funnelcast.evaluation.rows import Array, Floats
from funnelcast.evaluation.standard_errors import effective_rows, mean_variance, quantile

TOO_FEW = 4
"""Groups under which there is no interval."""


def mean_interval(values: Floats, level: float = 0.95) -> Interval:
    """Mean of values (G,), one per group; NaN ones are left out, and `note` counts them.

    Of two methods' differences group by group it is their paired comparison.
    """
    known = values[~np.isnan(values)]
    lacking = len(values) - len(known)
    note = f"{lacking} of {len(values)} undefined" if lacking else ""
    if not len(known):
        return Interval(math.nan, math.nan, math.nan, math.nan, note or "no values")
    mean = float(known.mean())
    if len(known) < TOO_FEW:
        return Interval(mean, math.nan, math.nan, math.nan, ", ".join(filter(None, (note, "too few for an interval"))))
    error = float(known.std(ddof=1)) / math.sqrt(len(known))
    half = quantile(level, len(known) - 1) * error
    return Interval(mean, mean - half, mean + half, error, note)


def loss_difference(
    labels: Array,
    a: tuple[Array | float, Array | float],
    b: tuple[Array | float, Array | float],
    weights: Array | None = None,
    level: float = 0.95,
) -> Interval:
    """Mean log-loss of a minus that of b over the same rows, with the interval of a mean of paired differences.

    labels (N,) in {0, 1}; a and b: log p and log q, (N,) or one for all rows; weights (N,) >= 0. By Student's t with
    degrees of freedom that heed the tails of the differences; none with under 10 (effective) rows of a class.
    """
    y = labels == 1
    w = np.ones(len(y)) if weights is None else weights.astype(np.float64)
    if not np.any(w):
        return Interval(math.nan, math.nan, math.nan, math.nan, "no rows")
    differences = np.where(y, np.subtract(b[0], a[0], dtype=np.float64), np.subtract(b[1], a[1], dtype=np.float64))
    estimate = float(np.average(differences, weights=w))
    variance, freedom = mean_variance(differences, w)
    for name, own in (("positives", w[y]), ("negatives", w[~y])):
        if not np.any(own) or effective_rows(own) < TOO_FEW_ROWS - 1e-6:
            return Interval(estimate, math.nan, math.nan, math.sqrt(variance), f"too few {name}")
    half = quantile(level, freedom) * math.sqrt(variance)
    return Interval(estimate, estimate - half, estimate + half, math.sqrt(variance))
