"""Measuring a bundle on a part of a prepared table, beside what knows nothing and what knows the truth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from funnelcast.data.columns import Columns
from funnelcast.data.encoder import Encoder
from funnelcast.data.table import Table
from funnelcast.errors import ComparisonError, TableError, did_you_mean
from funnelcast.evaluation.funnel import conditional, measure_funnel, sample_space
from funnelcast.evaluation.groups import grouped_auc
from funnelcast.evaluation.score import score
from funnelcast.schema.funnel import Funnel
from funnelcast.serving.bundle import Bundle


def evaluate(bundle: Bundle, table: Table, part: str = "test", by: str | None = None) -> dict[str, Any]:
    """Metrics by output name, under "outputs"; the same for the constant predictor, under "constant", and where the
    table knows the truth for the true model, under "truth"; AUCs by the values of a kept column, under "groups".

    Raises ComparisonError when the table's ids are not the bundle's, TableError for an unknown column.
    """
    require_same_ids(bundle.encoder, table)
    rows, funnel = table.part(part), table.schema.funnel
    assert rows.labels is not None
    log_p, log_q = score(bundle.model, rows, bundle.keep_negatives)
    measured = measure_funnel(funnel, rows.labels, log_p, log_q, rows.weight)
    constant = np.broadcast_to(np.array(bundle.rates), log_p.shape)
    result = {
        "part": part,
        "rows": len(rows),
        "protocol": table.protocol,
        "outputs": {name: m.as_dict() for name, m in measured.outputs.items()},
        "ratio_cut": measured.cut,
        "constant": _of_probabilities(funnel, rows, constant),
    }
    truth = _truth(funnel, table.side(part))
    if truth is not None:
        result["truth"] = _of_probabilities(funnel, rows, truth)
    if by is not None:
        result["groups"] = _groups(funnel, rows, log_p, _group_column(table, part, by))
    return result


def require_same_ids(encoder: Encoder, table: Table) -> None:
    """The bundle's ids may go on after the table's, as they do after a warm start."""
    for name, vocabulary in table.encoder.vocabularies.items():
        known = encoder.vocabularies.get(name)
        if known is None or not known.values[: len(vocabulary.values)].equals(vocabulary.values):
            raise ComparisonError(
                f"{table.folder} gives other ids to {name!r} than the bundle's own table; evaluate on that one, or "
                "score the raw rows with: funnelcast predict"
            )
    if encoder.numbers != table.encoder.numbers:
        raise ComparisonError(f"{table.folder} scales its numbers in another way than the bundle's own table")


def _of_probabilities(funnel: Funnel, rows: Columns, p: NDArray[np.float64]) -> dict[str, Any]:
    """Metrics of probabilities (N, T) of having reached each step."""
    p = np.clip(p, 1e-12, 1 - 1e-12)
    assert rows.labels is not None
    measured = measure_funnel(funnel, rows.labels, np.log(p), np.log1p(-p), rows.weight)
    return {name: m.as_dict() for name, m in measured.outputs.items()}


def _truth(funnel: Funnel, side: pa.Table) -> NDArray[np.float64] | None:
    """True probabilities (N, T) of having reached each step, where a generator wrote them beside the log."""
    reached: list[NDArray[np.float64]] = []
    for t, (step, parent) in enumerate(zip(funnel.names, funnel.parents, strict=True)):
        column = f"true_p_{step}" + (f"_given_{funnel.names[parent]}" if parent >= 0 else "")
        if column not in side.column_names:
            return None
        own = side[column].to_numpy()
        reached.append(own if parent < 0 else own * reached[funnel.parents[t]])
    return np.stack(reached, 1)


def _group_column(table: Table, part: str, by: str) -> NDArray[Any]:
    """A kept column, or the ids of an id feature."""
    side, fields = table.side(part), [name for name, _ in table.encoder.inputs.fields]
    if by in side.column_names:
        return _plain(side[by], by)
    if by in fields:
        return table.part(part).ids[:, fields.index(by)]
    raise TableError(
        f"{table.folder} has no column {by!r} to group by; {did_you_mean(by, [*side.column_names, *fields])}"
    )


def _plain(column: pa.ChunkedArray, name: str) -> NDArray[Any]:
    """Values that can be sorted: integers as they are, everything else as text, null too."""
    if pa.types.is_integer(column.type) and not column.null_count:
        return np.asarray(column.to_numpy())
    try:
        return np.asarray(column.cast(pa.string()).fill_null("null").to_numpy())
    except pa.ArrowException:
        raise TableError(f"column {name!r} holds {column.type}, not one value per row; group by another") from None


def _groups(funnel: Funnel, rows: Columns, log_p: NDArray[np.float32], groups: NDArray[Any]) -> dict[str, Any]:
    """Per output: GAUC weighted by impressions, usable and total groups, and every group's AUC."""
    result = {}
    assert rows.labels is not None
    for output in funnel.outputs:
        chosen = sample_space(output, rows.labels)
        scores = log_p[chosen, output.step].astype(np.float64)
        if output.given is not None:
            scores, _, _ = conditional(scores, log_p[chosen, output.given])
        weight = None if rows.weight is None else rows.weight[chosen]
        found = grouped_auc(rows.labels[chosen, output.step], scores, groups[chosen], weight)
        result[output.name] = {
            "gauc": None if math.isnan(found.gauc) else found.gauc,
            "usable_groups": found.usable,
            "groups": found.total,
            "by_group": [
                {"group": str(g), "rows": int(n), "positives": int(k), "auc": None if math.isnan(a) else float(a)}
                for g, n, k, a in zip(found.groups, found.rows, found.positives, found.auc, strict=True)
            ],
        }
    return result
