"""Spread of a two-sample mean of structural components, and the quantiles that turn it into an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from funnelcast.evaluation.rows import Floats


class Summary(NamedTuple):
    """Mean of the components, its standard error, effective rows of either class, Welch's degrees of freedom.

    freedom is that of normal components, freedom_of_tails that of components with the tails that these have.
    """

    mean: float
    error: float
    sizes: tuple[float, float]
    freedom: float
    freedom_of_tails: float


def summarise(positives: Floats, negatives: Floats, w1: Floats, w0: Floats) -> Summary:
    """Of the structural components of m positives and n negatives and their weights: (m,), (n,), (m,), (n,).

    Rows are counted by Kish's effective number, (Σw)² / Σw²; the error is NaN with one row of a class. The variance of
    m values of kurtosis κ is known to 2 m / (κ - 1) degrees of freedom (O'Neill 2014), here m - 1 at most: to few where
    few positives are outscored, as at a high AUC.
    """
    mean, sizes = float(np.average(positives, weights=w1)), (effective_rows(w1), effective_rows(w0))
    parts, tails = zip(mean_variance(positives, w1), mean_variance(negatives, w0), strict=True)
    normal, tailed = welch(parts, [size - 1 for size in sizes]), welch(parts, tails)
    return Summary(mean, math.sqrt(sum(parts)), sizes, normal, tailed)


def welch(variances: Sequence[float], freedoms: Sequence[float]) -> float:
    """Degrees of freedom of a sum of independent variances, (Σ v)² / Σ (v² / f); infinite if none is above 0.

    Satterthwaite (1946), Welch (1947).
    """
    total = sum(variances)
    shares = [(v / total, f) for v, f in zip(variances, freedoms, strict=True) if v > 0] if total > 0 else []
    return 1 / sum(share**2 / f for share, f in shares) if shares else math.inf


def quantile(level: float, freedom: float = math.inf) -> float:
    """Two-sided quantile of Student's t with `freedom` > 0 degrees, of the normal distribution where it is infinite.

    Of level in (0, 1): a variable of that distribution is within ± quantile with that probability.
    """
    from scipy.special import ndtri, stdtrit  # takes a tenth of a second, and predicting needs none

    upper = (1 + level) / 2
    return float(ndtri(upper) if math.isinf(freedom) else stdtrit(freedom, upper))


def logit_interval(estimate: float, half: float) -> tuple[float, float]:
    """Estimate ± half, both in (0, 1), carried to the logit scale by the delta method and back."""
    centre, width = math.log(estimate / (1 - estimate)), half / (estimate * (1 - estimate))
    low, high = (0.5 + 0.5 * math.tanh((centre + side * width) / 2) for side in (-1, 1))
    return low, high


def effective_rows(w: Floats) -> float:
    """Kish's effective number of rows of weights (N,), (Σw)² / Σw²: N where all are equal."""
    return float(w.sum() ** 2 / (w @ w))


def mean_variance(values: Floats, w: Floats) -> tuple[float, float]:
    """Variance of the weighted mean of values (N,), and the degrees of freedom that their tails leave it."""
    size = effective_rows(w)
    if size < 1.5:
        return math.nan, math.nan
    share = w / w.sum()
    terms = (share * (values - np.average(values, weights=w))) ** 2
    total = float(terms.sum())
    beyond = float(terms @ terms) - total**2 / size
    return total / (1 - float(share @ share)), min(size - 1, 2 * total**2 / beyond) if beyond > 0 else size - 1


def wilson(rate: float, size: float, level: float = 0.95) -> tuple[float, float]:
    """The interval of a rate in [0, 1] of `size` (> 0) rows, in [0, 1] (Wilson 1927)."""
    z = quantile(level)
    centre, half = rate + z * z / (2 * size), z * math.sqrt(rate * (1 - rate) / size + z * z / (4 * size * size))
    scale = 1 + z * z / size
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
