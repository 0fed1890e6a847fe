"""What a model's scores on a part of a table tell: calibration, distribution, and AUC by frequency of an item."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from funnelcast.calibration.fit import calibrated
from funnelcast.data.columns import Columns
from funnelcast.data.table import Table
from funnelcast.errors import TableError, did_you_mean
from funnelcast.evaluation.auc import auc_interval
from funnelcast.evaluation.funnel import conditional, sample_space
from funnelcast.evaluation.rows import Array, Bools, Floats, cumulative, midpoints, tie_starts
from funnelcast.evaluation.score import score
from funnelcast.evaluation.standard_errors import wilson
from funnelcast.experiments.groups import group_by
from funnelcast.schema.funnel import Output
from funnelcast.serving.bundle import Bundle


@dataclass(frozen=True)
class Rows:
    """Those that an output is measured over."""

    where: Bools
    """(N,) of the part."""
    labels: Array
    log_p: Floats
    weight: Floats


@dataclass(frozen=True)
class Scored:
    """All of them, once scored."""

    table: Table
    columns: Columns
    log_p: NDArray[np.float32]
    """(N, T)."""
    part: str
    before: NDArray[np.float32] | None = None
    """(N, T) without the bundle's calibration, where it has one."""

    @classmethod
    def of(cls, bundle: Bundle, table: Table, part: str) -> Scored:
        """Scored by a bundle."""
        columns, calibration = table.part(part), bundle.calibration
        log_p, log_q = score(bundle.model, columns, bundle.keep_negatives)
        if calibration is None or calibration.is_identity:
            return cls(table, columns, log_p, part)
        return cls(table, columns, calibrated(calibration, log_p, log_q, columns)[0], part, log_p)

    def outputs(self) -> tuple[Output, ...]:
        """Of the table's funnel."""
        return self.table.schema.funnel.outputs

    def rows(self, output: Output, log_p: NDArray[np.float32] | None = None) -> Rows:
        """Of one output, as the bundle predicts them or as `log_p` (N, T) says."""
        scores, labels, weight = self.log_p if log_p is None else log_p, self.columns.labels, self.columns.weight
        assert labels is not None
        where = sample_space(output, labels)
        reached = scores[where, output.step].astype(np.float64)
        if output.given is not None:
            reached = conditional(reached, scores[where, output.given])[0]
        own = np.ones(len(reached)) if weight is None else np.asarray(weight[where], np.float64)
        return Rows(where, labels[where, output.step], reached, own)


BINS, LARGEST, LEAST = 12, 4, 200
"""Bins; groups that are shown, the largest ones; rows that a group must have."""


def calibration(scored: Scored, by: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """By output: all rows, these before the bundle's calibration, the largest groups of a kept column or id feature.
    Raises TableError for `by`."""
    found: dict[str, list[dict[str, Any]]] = {}
    groups = group_by(scored.table, scored.columns, scored.table.side(scored.part), by) if by is not None else None
    for output in scored.outputs():
        rows = scored.rows(output)
        every = np.ones(len(rows.labels), bool)
        found[output.name] = [_curve(None, rows, every)]
        if scored.before is not None:
            found[output.name].append(_curve("before calibration", scored.rows(output, scored.before), every))
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
            figures = {
                "predicted": float(np.average(p[rows], weights=w)),
                "observed": observed,
                "low": low,
                "high": high,
            }
            found.append({**figures, "rows": len(rows)})
    return found


SCORE_BINS = 40


def distribution(scored: Scored) -> dict[str, Any]:
    """By output: edges of bins in log10 p, and weights of the rows in each by label."""
    found = {}
    for output in scored.outputs():
        rows = scored.rows(output)
        x = rows.log_p / math.log(10)
        if not len(x):
            continue
        low, high = np.quantile(x, [0.0005, 1.0])
        edges = np.linspace(low, max(high, low + 1e-6), SCORE_BINS + 1)
        inside = np.clip(x, edges[0], edges[-1])
        counts = {
            name: np.histogram(inside[own], edges, weights=rows.weight[own])[0].tolist()
            for name, own in (("reached", rows.labels == 1), ("not", rows.labels != 1))
        }
        found[output.name] = {"edges": edges.tolist(), **counts}
    return found


SHARES = {"head": 0.5, "middle": 0.8, "tail": 1.0}
"""Of the training rows, up to which the most frequent ids belong to each."""
NAMES = ("new", "tail", "middle", "head")


def frequency(scored: Scored, field: str | None = None) -> dict[str, Any] | None:
    """By output, of an id field, by default the one with most ids; None without id fields. Raises TableError."""
    fields = scored.table.encoder.inputs.fields
    if not fields:
        return None
    names, sizes = [name for name, _ in fields], scored.table.encoder.inputs.sizes
    field = field or max(fields, key=lambda each: sizes[each[1]])[0]
    if field not in names:
        raise TableError(f"{scored.table.folder} has no id field {field!r}; {did_you_mean(field, names)}")
    i = names.index(field)
    bucket = buckets(np.asarray(scored.table.part("train").ids[:, i]), sizes[fields[i][1]])
    own = bucket[np.asarray(scored.columns.ids[:, i])]
    return {"field": field, "outputs": {output.name: _measure(scored, output, own) for output in scored.outputs()}}


def buckets(ids: Array, size: int) -> Array:
    """(size,) the place in `NAMES` of every id, from those of the training rows. Id 0 is unknown, so new."""
    counts = np.bincount(ids, minlength=size)
    counts[0] = 0
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    place = np.searchsorted([share * counts.sum() for share in SHARES.values()], before, side="right")
    found = np.empty(size, np.int64)
    found[order] = 3 - np.minimum(place, 2)
    found[counts == 0] = 0
    return found


def _measure(scored: Scored, output: Any, bucket: Array) -> list[dict[str, Any]]:
    rows, by_bucket = scored.rows(output), []
    for place, name in enumerate(NAMES):
        own = bucket[rows.where] == place
        labels = rows.labels[own]
        auc = auc_interval(labels, rows.log_p[own], rows.weight[own])
        figures = {"auc": auc.estimate, "low": auc.low, "high": auc.high}
        known = {key: value if math.isfinite(value) else None for key, value in figures.items()}
        by_bucket.append(
            {"name": name, "rows": len(labels), "positives": int((labels == 1).sum()), **known, "note": auc.note}
        )
    return by_bucket
