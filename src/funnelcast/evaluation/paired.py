"""Means over groups that were drawn alike, and paired differences of them, with intervals by Student's t."""

from __future__ import annotations

import math

import numpy as np

from funnelcast.evaluation.auc import Interval
from funnelcast.evaluation.rows import Floats
from funnelcast.evaluation.spread import quantile

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
