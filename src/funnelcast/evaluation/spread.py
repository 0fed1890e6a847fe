"""Spread of a two-sample mean of structural components, and the quantiles that turn it into an interval."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit

from funnelcast.evaluation.rows import Floats


class Summary(NamedTuple):
    """Mean of the components, its standard error, effective rows of either class, Welch's degrees of freedom."""

    mean: float
    error: float
    sizes: tuple[float, float]
    freedom: float


def summarise(positives: Floats, negatives: Floats, w1: Floats, w0: Floats) -> Summary:
    """Of the structural components of m positives and n negatives and their weights: (m,), (n,), (m,), (n,).

    Rows are counted by Kish's effective number, (Σw)² / Σw²; the error is NaN with one row of a class.
    """
    mean, sizes = float(np.average(positives, weights=w1)), (effective_rows(w1), effective_rows(w0))
    parts = _variance(positives, w1), _variance(negatives, w0)
    spread = sum(parts)
    welch = sum((part / spread) ** 2 / (size - 1) for part, size in zip(parts, sizes, strict=True)) if spread > 0 else 0
    return Summary(mean, math.sqrt(spread), sizes, 1 / welch if welch else math.inf)


def quantile(level: float, freedom: float = math.inf) -> float:
    """Two-sided quantile of Student's t with `freedom` > 0 degrees, of the normal distribution where it is infinite.

    Of level in (0, 1): a variable of that distribution is within ± quantile with that probability.
    """
    upper = (1 + level) / 2
    return float(ndtri(upper) if math.isinf(freedom) else stdtrit(freedom, upper))


def logit_interval(estimate: float, half: float) -> tuple[float, float]:
    """estimate ± half, both in (0, 1), carried to the logit scale by the delta method and back."""
    centre, width = math.log(estimate / (1 - estimate)), half / (estimate * (1 - estimate))
    low, high = (0.5 + 0.5 * math.tanh((centre + side * width) / 2) for side in (-1, 1))
    return low, high


def effective_rows(w: Floats) -> float:
    """Kish's effective number of rows of weights (N,), (Σw)² / Σw²: N where all are equal."""
    return float(w.sum() ** 2 / (w @ w))


def _variance(values: Floats, w: Floats) -> float:
    if effective_rows(w) < 1.5:
        return math.nan
    share = w / w.sum()
    return float(np.sum((share * (values - np.average(values, weights=w))) ** 2) / (1 - share @ share))
