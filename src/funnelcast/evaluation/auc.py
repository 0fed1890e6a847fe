"""Exact AUC, its interval, and the paired difference of two: one sort per score vector, then linear passes."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from funnelcast.compiled import compiled
from funnelcast.errors import ComparisonError
from funnelcast.evaluation.rows import Array, Bools, Floats, check_rows
from funnelcast.evaluation.standard_errors import logit_interval, quantile, summarise

TOO_FEW = 10
"""Below this many rows of a class (effective rows, if weighted) an AUC gets no interval."""
FEW = 50
"""Below this many rows of a class a difference of two AUCs has Student's t, and every interval a note."""

BLOCK = 65_536
"""Sorted rows that are gone through at a time, so that what a step makes stays in the cache."""


class Interval(NamedTuple):
    """An estimate and its confidence interval; NaN where there is none, and then `note` says why."""

    estimate: float
    low: float
    high: float
    std_error: float
    note: str = ""


def auc(labels: Array, scores: Array, weights: Array | None = None) -> float:
    """Probability that a positive row outscores a negative one, ties counted half (Mann-Whitney U over its maximum).

    labels (N,) uint8 or bool in {0, 1}; scores (N,) of any float type; weights (N,) >= 0, a pair counting the product
    of its two. In [0, 1]; NaN if a class is missing or a score is NaN. Raises ValueError for other shapes or labels.
    """
    return auc_interval(labels, scores, weights).estimate


def auc_interval(labels: Array, scores: Array, weights: Array | None = None, level: float = 0.95) -> Interval:
    """`auc` with the variance of DeLong et al. (1988) by the fast algorithm of Sun & Xu (2014), O(N log N).

    Arguments and errors as for `auc`; level in (0, 1). The truth is the AUC of these scores over the population of
    rows. The interval is estimate ± t·std_error on the logit scale (Pepe 2003, ch. 5), by Student's t with degrees of
    freedom that heed the tails of the components (`summarise`): a high AUC rests on the few positives that are
    outscored. None with under 10 rows of a class. Weights are taken as fixed: the variance is that of the Hájek
    projection, and rows are counted by Kish's effective number, (Σw)² / Σw². An AUC of exactly 1 or 0 has no spread to
    measure: its k = min(positives, negatives) disjoint pairs all agree, which has a probability of at most AUC^k, so
    the interval reaches to ((1 − level) / 2)^(1/k).
    """
    y, w = check_rows(labels, scores, weights=weights)
    if note := _undefined(y, w, scores):
        return Interval(math.nan, math.nan, math.nan, math.nan, note)
    estimate, error, sizes, _, freedom = summarise(*placements(y, scores, w), w[y], w[~y])
    if few := _below(TOO_FEW, sizes):
        return Interval(estimate, math.nan, math.nan, error, f"too few {few}")
    if estimate in (0.0, 1.0):
        bound = ((1 - level) / 2) ** (1 / min(sizes))
        low, high = (bound, 1.0) if estimate else (0.0, 1 - bound)
        return Interval(estimate, low, high, error, "perfect separation: bound from disjoint pairs")
    few = _below(FEW, sizes)
    low, high = logit_interval(estimate, quantile(level, freedom) * error)
    return Interval(estimate, low, high, error, f"few {few}: the interval is rough" if few else "")


def auc_difference(
    labels: Array, scores_a: Array, scores_b: Array, weights: Array | None = None, level: float = 0.95
) -> Interval:
    """AUC of a minus AUC of b on the same rows, with the paired variance of DeLong et al. (1988).

    Arguments as for `auc_interval`; the truth is the difference of these scores' AUCs over the population of rows. In
    [-1, 1]; Student's t with under 50 rows of a class, no interval with under 10, estimate and error NaN where an AUC
    is undefined. Raises ComparisonError if the rows are not as many in all.
    """
    if not len(labels) == len(scores_a) == len(scores_b):
        raise ComparisonError(
            f"{len(scores_a)} and {len(scores_b)} scores for {len(labels)} labels; a paired comparison needs the same "
            "rows in the same order: predict both from one table"
        )
    y, w = check_rows(labels, scores_a, scores_b, weights=weights)
    if note := _undefined(y, w, scores_a, scores_b):
        return Interval(math.nan, math.nan, math.nan, math.nan, note)
    positives, negatives = (a - b for a, b in zip(placements(y, scores_a, w), placements(y, scores_b, w), strict=True))
    estimate, error, sizes, freedom, _ = summarise(positives, negatives, w[y], w[~y])
    if few := _below(TOO_FEW, sizes):
        return Interval(estimate, math.nan, math.nan, error, f"too few {few}")
    few = _below(FEW, sizes)
    half = quantile(level, freedom if few else math.inf) * error
    note = "no spread: all rows differ alike" if error < 1e-15 else f"few {few}: interval by Student's t" if few else ""
    return Interval(estimate, max(-1.0, estimate - half), min(1.0, estimate + half), error, note)


def placements(y: Bools, scores: Array, w: Floats) -> tuple[Floats, Floats]:
    """The structural components: for each positive the share of negatives it outscores, for each negative the share of
    positives that outscore it, ties half, both by weight and in row order; their (weighted) means are the AUC.
    """
    order, by_row = np.argsort(scores), np.empty(len(scores))
    mass0 = mass1 = 0.0
    alike = bool(np.all(w == w[:1]))  # what is read in the order of scores takes most of the time
    cuts = np.unique(np.searchsorted(scores, scores[order[::BLOCK]], sorter=order))  # no run of ties is cut
    for rows in np.split(order, cuts[1:]):
        mass, ordered = w[: len(rows)] if alike else w[rows], scores[rows].astype(np.float64)
        by_row[rows], mass0, mass1 = _others_below(y[rows], ordered, mass, mass0, mass1)
    return by_row[y] / mass0, 1 - by_row[~y] / mass1


@compiled
def _others_below(y: Bools, scores: Floats, w: Floats, mass0: float, mass1: float) -> tuple[Floats, float, float]:
    """Of rows in the order of their scores, behind others of masses `mass0` and `mass1` by class: the mass of the other
    class below each, that of its ties half; and the masses with these."""
    below, start = np.empty(len(y)), 0
    while start < len(y):
        end, own0, own1 = start, 0.0, 0.0
        while end < len(y) and (end == start or scores[end] == scores[start]):  # NaN is not even its own equal
            if y[end]:
                own1 += w[end]
            else:
                own0 += w[end]
            end += 1
        for i in range(start, end):
            below[i] = mass0 + own0 / 2 if y[i] else mass1 + own1 / 2
        start, mass0, mass1 = end, mass0 + own0, mass1 + own1
    return below, mass0, mass1


def _undefined(y: Bools, w: Floats, *scores: Array) -> str:
    if not len(y):
        return "no rows"
    if not (np.any(w[y]) and np.any(w[~y])):
        return "undefined: one class only"
    return "undefined: a score is NaN" if any(np.isnan(column).any() for column in scores) else ""


def _below(limit: int, sizes: tuple[float, float]) -> str:
    few = (size < limit - 1e-6 for size in sizes)
    return next((name for name, is_few in zip(("positives", "negatives"), few, strict=True) if is_few), "")
