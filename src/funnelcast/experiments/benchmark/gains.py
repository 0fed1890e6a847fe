"""How much better than another a model is, and how sure that is: over rows and seeds, or over random splits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.columns import Columns
from funnelcast.data.table import Table
from funnelcast.evaluation.auc import Interval
from funnelcast.evaluation.funnel import conditional, sample_space
from funnelcast.evaluation.multiple import holm, p_value
from funnelcast.evaluation.power import smallest_difference
from funnelcast.evaluation.resampled import resampled_interval
from funnelcast.evaluation.seeds import over_seeds, rows_and_seeds
from funnelcast.experiments.benchmark.cell import scores_of
from funnelcast.experiments.benchmark.pool import Cell
from funnelcast.experiments.benchmark.splits import TEST_SHARE
from funnelcast.experiments.benchmark.suite import Suite
from funnelcast.schema.funnel import Output


def gains_over(suite: Suite, base: str, by_model: Mapping[str, Sequence[Cell]]) -> dict[str, dict[str, Any]]:
    """AUC over another model's, by model and output, with p values that are corrected over the models."""
    found = dict[str, dict[str, Any]]()
    others = {model: cells for model, cells in by_model.items() if model != base and cells}
    if not by_model[base] or not others:
        return found
    table = Table.open(by_model[base][0].table)
    for output in table.schema.funnel.outputs:
        if suite.splits is not None:
            own = {model: _over_splits(output, cells, by_model[base]) for model, cells in others.items()}
        else:
            rows = table.part("test")
            own = {model: _gain(output, cells, by_model[base], rows) for model, cells in others.items()}
        adjusted = holm(np.array([each["p"] for each in own.values()], np.float64))
        for (model, gain), p in zip(own.items(), adjusted, strict=True):
            found.setdefault(model, {})[output.name] = gain | {"p_adjusted": _json(float(p))}
    return found


def _over_splits(output: Output, cells: Sequence[Cell], others: Sequence[Cell]) -> dict[str, Any]:
    """On the splits that both models have."""
    own, base = ({cell.seed: _auc(cell, output) for cell in group} for group in (cells, others))
    differences = np.array([own[split] - base[split] for split in sorted(own.keys() & base.keys())], np.float64)
    found = resampled_interval(differences, TEST_SHARE)
    return {**_interval(found), "p": _json(p_value(found)), "smallest": _json(smallest_difference(found.std_error))}


def _gain(output: Output, cells: Sequence[Cell], others: Sequence[Cell], rows: Columns) -> dict[str, Any]:
    assert rows.labels is not None
    where = sample_space(output, rows.labels)
    labels = rows.labels[where, output.step]
    weight = None if rows.weight is None else np.asarray(rows.weight[where], np.float64)
    own, base = (np.stack([_scores(cell, output, where) for cell in group]) for group in (cells, others))
    both = rows_and_seeds(labels, own, base, weight)
    aucs = [[_auc(cell, output) for cell in group] for group in (cells, others)]
    a, b = (np.array(each[: min(map(len, aucs))], np.float64) for each in aucs)
    return {
        **_interval(both),
        "p": _json(p_value(both)),
        "seeds": _interval(over_seeds(a, b)),
        "smallest": _json(smallest_difference(both.std_error)),
    }


def _auc(cell: Cell, output: Output) -> float:
    found = cell.read()["metrics"][output.name]["auc"]["estimate"]
    return math.nan if found is None else float(found)


def _scores(cell: Cell, output: Output, where: NDArray[np.bool_]) -> NDArray[Any]:
    """Of the rows that the output is measured over."""
    log_p = scores_of(cell.folder)[where]
    if output.given is None:
        return log_p[:, output.step]
    return conditional(log_p[:, output.step], log_p[:, output.given])[0]


def _interval(interval: Interval) -> dict[str, Any]:
    return {name: _json(value) for name, value in interval._asdict().items()}


def _json(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
