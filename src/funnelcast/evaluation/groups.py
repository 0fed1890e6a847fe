"""AUC within groups (users, campaigns, scenarios) and its mean: one sort for all groups together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from funnelcast.evaluation.rows import Array, Bools, Floats, check_rows, cumulative, midpoints, tie_starts


@dataclass(frozen=True)
class GroupedAuc:
    """AUC per group, groups (G,) in sorted order; NaN for a group that is not usable."""

    groups: Array
    auc: Floats
    rows: NDArray[np.int64]
    positives: NDArray[np.int64]
    has_both: Bools
    """Whether the group has both classes (of positive weight), and so an AUC."""
    gauc: float
    """Mean AUC of the usable groups, each weighted by its impressions (rows, or their weights); NaN if none is."""

    @property
    def usable(self) -> int:
        """How many groups have an AUC."""
        return int(np.count_nonzero(self.has_both))

    @property
    def total(self) -> int:
        """How many groups there are."""
        return len(self.groups)


def grouped_auc(labels: Array, scores: Array, groups: Array, weights: Array | None = None) -> GroupedAuc:
    """Exact AUC within each group and their impression-weighted mean, GAUC (Zhou et al. 2018, DIN).

    labels (N,) in {0, 1}; scores (N,) of any float type; groups (N,) integers or strings; weights (N,) >= 0. A group
    that holds a NaN score has the AUC NaN, and so has the mean. Raises ValueError as `auc` does.
    """
    y, w = check_rows(labels, scores, groups, weights=weights)
    names, inverse = np.unique(groups, return_inverse=True)

    def per_group(mass: Array) -> Floats:
        return np.asarray(np.bincount(inverse, weights=mass, minlength=len(names)), np.float64)

    impressions = per_group(w)
    share = w / np.where(impressions > 0, impressions, 1.0)[inverse]  # one sum runs over heavy and light groups
    won = per_group(_mass_won(y, scores, inverse, share))
    pairs = per_group(share * y) * per_group(share * ~y)
    has_both = (per_group((w > 0) & y) > 0) & (per_group((w > 0) & ~y) > 0)
    auc = np.divide(won, pairs, out=np.full(len(names), math.nan), where=has_both)
    return GroupedAuc(
        groups=names,
        auc=auc,
        rows=np.bincount(inverse, minlength=len(names)),
        positives=np.bincount(inverse[y], minlength=len(names)),
        has_both=has_both,
        gauc=float(np.average(auc[has_both], weights=impressions[has_both])) if has_both.any() else math.nan,
    )


def _mass_won(y: Bools, scores: Array, inverse: NDArray[np.intp], w: Floats) -> Floats:
    """(N,) weighted pairs each positive wins within its group, ties half; 0 for negatives, NaN for a NaN score."""
    order = np.lexsort((scores, inverse))
    inverse, scores = inverse[order], scores[order]
    cum = cumulative((w * ~y)[order])
    starts = tie_starts(inverse)
    before_group = np.repeat(cum[starts], np.diff(np.append(starts, len(order))))
    won = np.where(
        np.isnan(scores), math.nan, (w * y)[order] * (midpoints(cum, tie_starts(inverse, scores)) - before_group)
    )
    in_row_order = np.empty(len(order))
    in_row_order[order] = won
    return in_row_order
