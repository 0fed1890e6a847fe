"""What the cells of a benchmark say together: means over seeds, gains over the reference, and how sure they are."""

from __future__ import annotations

import math
import statistics
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
from funnelcast.evaluation.seeds import over_seeds, rows_and_seeds
from funnelcast.experiments.benchmark.cell import scores_of
from funnelcast.experiments.benchmark.pool import Cell
from funnelcast.experiments.benchmark.protocol import require_one
from funnelcast.experiments.benchmark.suite import Suite
from funnelcast.experiments.evaluate import true_metrics
from funnelcast.schema.funnel import Output

FIGURES = ("auc", "log_loss", "normalised_entropy", "calibration_error", "observed_over_predicted")
COSTS = ("parameters", "epochs", "rows_per_s", "training_seconds", "seconds", "peak_bytes")
TRUTH = {
    "rows_and_seeds": "difference of the expected AUCs, over test rows of this law and over seeds",
    "seeds": "expected difference on these very test rows, over seeds",
}
"""What each interval is of."""


def results_of(suite: Suite, cells: Sequence[Cell], table: Table) -> dict[str, Any]:
    """Everything that stands in `results.json`. Raises ComparisonError where cells are of several protocols."""
    finished = [cell for cell in cells if cell.is_finished]
    read = {cell.name: cell.read() for cell in finished}
    by_model = {model: [c for c in finished if c.model == model] for model in suite.models}
    protocol = require_one(read) if read else {}
    gains = _gains(suite.base, by_model, table) if by_model[suite.base] else {}
    alone = next((cell.model for cell in finished if cell.experiment.model.name == "single_task"), None)
    models = {}
    for model, own in by_model.items():
        found = [read[cell.name] for cell in own]
        models[model] = {
            "seeds": [cell.seed for cell in own],
            "failed": {cell.seed: cell.failure for cell in cells if cell.model == model and cell.failure},
            "figures": _figures([each["metrics"] for each in found]),
            "cost": {name: _spread([each["cost"][name] for each in found]) for name in COSTS} if found else {},
            "gains": gains.get(model, {}),
        }
    return {
        "name": suite.name,
        "title": suite.title or suite.name,
        "protocol": dict(protocol),
        "test_rows": table.rows("test"),
        "reference": suite.base,
        "truth": TRUTH,
        "true_model": true_metrics(table),
        "control": None if alone is None else {"model": alone, "gains": _gains(alone, by_model, table)},
        "models": models,
    }


def _figures(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """By output and figure, over the seeds."""
    if not metrics:
        return {}
    return {
        output: {
            "rows": metrics[0][output]["rows"],
            "positives": metrics[0][output]["positives"],
            "note": metrics[0][output]["auc"]["note"],
            **{name: _spread([_figure(each[output], name) for each in metrics]) for name in FIGURES},
        }
        for output in metrics[0]
    }


def _figure(metrics: Mapping[str, Any], name: str) -> float | None:
    value = metrics[name]["estimate"] if name == "auc" else metrics[name]
    return None if value is None else float(value)


def _spread(values: Sequence[float | None]) -> dict[str, Any]:
    """No mean where a seed has no value; no deviation of one."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return {"mean": None, "std": None, "values": list(values)}
    std = statistics.stdev(known) if len(known) > 1 else None
    return {"mean": statistics.mean(known), "std": std, "values": known}


def _gains(base: str, by_model: Mapping[str, Sequence[Cell]], table: Table) -> dict[str, dict[str, Any]]:
    """AUC over the reference's, by model and output, with p values that are corrected over the models."""
    rows, found = table.part("test"), dict[str, dict[str, Any]]()
    for output in table.schema.funnel.outputs:
        own = {
            model: _gain(output, cells, by_model[base], rows)
            for model, cells in by_model.items()
            if model != base and cells
        }
        adjusted = holm(np.array([each["p"] for each in own.values()], np.float64))
        for (model, gain), p in zip(own.items(), adjusted, strict=True):
            found.setdefault(model, {})[output.name] = gain | {"p_adjusted": _json(float(p))}
    return found


def _gain(output: Output, cells: Sequence[Cell], others: Sequence[Cell], rows: Columns) -> dict[str, Any]:
    assert rows.labels is not None
    where = sample_space(output, rows.labels)
    labels = rows.labels[where, output.step]
    weight = None if rows.weight is None else np.asarray(rows.weight[where], np.float64)
    own, base = (np.stack([_scores(cell, output, where) for cell in group]) for group in (cells, others))
    both = rows_and_seeds(labels, own, base, weight)
    aucs = [[cell.read()["metrics"][output.name]["auc"]["estimate"] for cell in group] for group in (cells, others)]
    a, b = (np.array(each[: min(map(len, aucs))], np.float64) for each in aucs)
    return {
        **_interval(both),
        "p": _json(p_value(both)),
        "seeds": _interval(over_seeds(a, b)),
        "smallest": _json(smallest_difference(both.std_error)),
    }


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
