"""Observed against predicted rates, in bins of equal mass, with an interval for what was observed."""

from __future__ import annotations

from typing import Any

import numpy as np

from funnelcast.evaluation.rows import Array, Floats, cumulative, midpoints, tie_starts
from funnelcast.evaluation.spread import wilson
from funnelcast.experiments.groups import group_by
from funnelcast.reports.diagnosis.scored import Rows, Scored

BINS, LARGEST, LEAST = 12, 4, 200
"""Bins; groups that are shown, the largest ones; rows that a group must have."""


def calibration(scored: Scored, by: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """By output: all rows, then the largest groups of a kept column or id feature. Raises TableError for `by`."""
    found: dict[str, list[dict[str, Any]]] = {}
    groups = group_by(scored.table, scored.columns, scored.table.side(scored.part), by) if by is not None else None
    for output in scored.outputs():
        rows = scored.rows(output)
        found[output.name] = [_curve(None, rows, np.ones(len(rows.labels), bool))]
        if groups is not None:
            keys, known = groups.keys[rows.where], groups.is_known[rows.where]
            names, counts = np.unique(keys[known], return_counts=True)
            for i in np.argsort(-counts, kind="stable")[:LARGEST]:
                if counts[i] >= LEAST:
                    found[output.name].append(_curve(groups.name(names[i]), rows, known & (keys == names[i])))
    return found


def _curve(group: str | None, rows: Rows, where: Array) -> dict[str, Any]:
    curve = bins_of(rows.labels[where], np.exp(rows.log_p[where]), rows.weight[where])
    return {"group": group, "rows": int(np.count_nonzero(where)), "bins": curve}


def bins_of(labels: Array, p: Floats, weight: Floats, bins: int = BINS) -> list[dict[str, Any]]:
    """Bins of equal mass in the order of p (N,) that equal values are never parted over: mean p, rate of labels (N,),
    and its 95 % interval by Wilson's (1927) score, rows counted by Kish's effective number. Empty without weight."""
    order = np.argsort(p, kind="stable")
    mass = cumulative(weight[order])
    if mass[-1] <= 0:
        return []
    rank = midpoints(mass, tie_starts(p[order])) / mass[-1]
    of_bin = np.minimum((rank * bins).astype(int), bins - 1)
    found = []
    for b in np.unique(of_bin):
        rows = order[of_bin == b]
        w = weight[rows]
        if w.sum() > 0:
            observed, size = float(np.average(labels[rows] == 1, weights=w)), float(w.sum() ** 2 / (w @ w))
            low, high = wilson(observed, size)
            told = {"predicted": float(np.average(p[rows], weights=w)), "observed": observed, "low": low, "high": high}
            found.append({**told, "rows": len(rows)})
    return found
