"""AUC by how often training saw a row's item: head, middle, tail, and what it never saw."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funnelcast.errors import TableError, did_you_mean
from funnelcast.evaluation.auc import auc_interval
from funnelcast.evaluation.rows import Array
from funnelcast.reports.diagnosis.scored import Scored

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
    rows, told = scored.rows(output), []
    for place, name in enumerate(NAMES):
        own = bucket[rows.where] == place
        labels = rows.labels[own]
        auc = auc_interval(labels, rows.log_p[own], rows.weight[own])
        figures = {"auc": auc.estimate, "low": auc.low, "high": auc.high}
        known = {key: value if math.isfinite(value) else None for key, value in figures.items()}
        told.append(
            {"name": name, "rows": len(labels), "positives": int((labels == 1).sum()), **known, "note": auc.note}
        )
    return told
