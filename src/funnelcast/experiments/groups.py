"""AUC and calibration per group: what a table's rows can be grouped by, and how the groups are called."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from funnelcast.data.columns import Columns
from funnelcast.data.encoder import Encoder
from funnelcast.data.table import Table
from funnelcast.errors import TableError, did_you_mean
from funnelcast.evaluation.auc import auc
from funnelcast.evaluation.funnel import conditional, sample_space
from funnelcast.evaluation.group_calibration import group_calibration
from funnelcast.evaluation.groups import grouped_auc
from funnelcast.evaluation.metrics import observed_over_predicted
from funnelcast.schema.funnel import Funnel


@dataclass(frozen=True)
class Groups:
    """The group of each row."""

    keys: NDArray[Any]
    """(N,), sortable."""
    is_known: NDArray[np.bool_]
    """(N,) whether the row's group is one: nulls, missing and unknown ids are not."""
    name: Callable[[Any], str]
    """What a key is called in the raw data."""


def group_by(table: Table, rows: Columns, side: pa.Table, by: str) -> Groups:
    """The rows of a part by a kept column in `side`, or by an id feature. Raises TableError."""
    fields = [name for name, _ in table.encoder.inputs.fields]
    if by in side.column_names:
        return Groups(_plain(side[by], by), np.asarray(side[by].is_valid()), str)
    if by in fields:
        ids = np.asarray(rows.ids[:, fields.index(by)])
        return Groups(ids, ids > 0, _names(table.encoder, by))
    raise TableError(
        f"{table.folder} has no column {by!r} to group by; {did_you_mean(by, [*side.column_names, *fields])}"
    )


def measure_groups(funnel: Funnel, rows: Columns, log_p: NDArray[np.float32], groups: Groups) -> dict[str, Any]:
    """By output: GAUC weighted by impressions, usable and total groups, field-ECE and field-RCE with the floors that
    chance alone gives them, every group's AUC and observed / predicted, and apart from them under "unknown" the rows
    whose group is not known, None where there are none.
    """
    result = {}
    assert rows.labels is not None
    for output in funnel.outputs:
        space = sample_space(output, rows.labels)
        labels, scores = rows.labels[space, output.step], log_p[space, output.step].astype(np.float64)
        if output.given is not None:
            scores, _, _ = conditional(scores, log_p[space, output.given])
        weight = np.ones(len(labels)) if rows.weight is None else np.asarray(rows.weight[space])
        known, keys = groups.is_known[space], groups.keys[space]
        found = grouped_auc(labels[known], scores[known], keys[known], weight[known])
        own = group_calibration(labels[known], np.exp(scores[known]), keys[known], weight[known])
        rest = auc(labels[~known], scores[~known], weight[~known])
        ratio = observed_over_predicted(labels[~known], np.exp(scores[~known]), weight[~known])
        unknown = _entry(int((~known).sum()), int(labels[~known].sum()), rest, ratio)
        result[output.name] = {
            "gauc": _json(found.gauc),
            "usable_groups": found.usable,
            "groups": found.total,
            "field_ece": _json(own.field_ece),
            "field_ece_floor": _json(own.field_ece_floor),
            "field_rce": _json(own.field_rce),
            "field_rce_floor": _json(own.field_rce_floor),
            "by_group": [
                {"group": groups.name(key), **_entry(*figures)}
                for key, *figures in zip(
                    found.groups, found.rows, found.positives, found.auc, own.observed_over_predicted, strict=True
                )
            ],
            "unknown": unknown if unknown["rows"] else None,
        }
    return result


def _entry(rows: int, positives: int, value: float, ratio: float) -> dict[str, Any]:
    figures = {"auc": _json(value), "observed_over_predicted": _json(ratio)}
    return {"rows": int(rows), "positives": int(positives), **figures}


def _json(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _plain(column: pa.ChunkedArray, name: str) -> NDArray[Any]:
    """Values that can be sorted: integers as they are, everything else as text; 0 or "" where there is none."""
    if pa.types.is_integer(column.type):
        return np.asarray(column.fill_null(0).to_numpy())
    try:
        return np.asarray(column.cast(pa.string()).fill_null("").to_numpy())
    except pa.ArrowException:
        raise TableError(f"column {name!r} holds {column.type}, not one value per row; group by another") from None


def _names(encoder: Encoder, feature: str) -> Callable[[Any], str]:
    """Of ids above 0: raw values, or the intervals of bins."""
    vocabulary = encoder.vocabularies.get(encoder.schema.vocabulary(feature))
    if vocabulary is not None:
        return lambda key: str(vocabulary.values[int(key) - 1])
    edges: list[float] = [-math.inf, *encoder.numbers[feature].edges, math.inf]  # type: ignore[union-attr]
    return lambda key: f"[{edges[key - 1]:g}, {edges[key]:g})"
