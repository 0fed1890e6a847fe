"""What the runs of a benchmark say together: means over seeds, gains over the reference, and their significance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from funnelcast.benchmarks.gains import gains_of
from funnelcast.benchmarks.protocol import require_one
from funnelcast.benchmarks.run_pool import ModelRun
from funnelcast.benchmarks.suite import Suite
from funnelcast.data.table import Table
from funnelcast.experiments.evaluate import true_metrics
from funnelcast.experiments.repeat import FIGURES, figure_of, mean_and_std

COSTS = ("parameters", "epochs", "rows_per_s", "training_seconds", "seconds", "peak_bytes")
TRUTH = {
    "rows_and_seeds": "difference of the expected AUCs, over test rows like these and over seeds",
    "seeds": "expected difference on these very test rows, over seeds",
    "splits": "expected difference over training and test rows like these, by the corrected resampled t interval",
}
"""What each interval is of."""


def results_of(suite: Suite, runs: Sequence[ModelRun], table: Table) -> dict[str, Any]:
    """Everything that stands in `results.json`. Raises ComparisonError where runs are of several protocols."""
    finished = [run for run in runs if run.is_finished]
    read = {run.name: run.read() for run in finished}
    by_model = {model: [c for c in finished if c.model == model] for model in suite.models}
    protocol = _protocol(suite, runs, read)
    alone = next((run.model for run in finished if run.experiment.model.name == "single_task"), None)
    bases = list(dict.fromkeys([suite.base, *([alone] if alone else [])]))
    gains, best = gains_of(suite, by_model, bases)
    models = {}
    for model, own in by_model.items():
        found = [read[run.name] for run in own]
        models[model] = {
            "seeds": [run.seed for run in own],
            "failed": {run.seed: run.failure for run in runs if run.model == model and run.failure},
            "figures": _figures([each["metrics"] for each in found]),
            "cost": {name: _mean_and_std([each["cost"][name] for each in found]) for name in COSTS} if found else {},
            "gains": gains[suite.base].get(model, {}),
            "warnings": _warnings({run.seed: read[run.name]["metrics"] for run in own}),
        }
    return {
        "name": suite.name,
        "title": suite.heading,
        "protocol": dict(protocol),
        "test_rows": table.rows("test"),
        "reference": suite.base,
        "truth": TRUTH,
        "published": suite.published,
        "splits": suite.splits,
        "true_model": {} if suite.splits is not None else true_metrics(table),
        "best": best,
        "control": None if alone is None else {"model": alone, "gains": gains[alone]},
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
            **{name: _mean_and_std([figure_of(each[output], name) for each in metrics]) for name in FIGURES},
        }
        for output in metrics[0]
    }


def _warnings(metrics: Mapping[int, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """By output that has collapsed, what was said of it by seed."""
    found: dict[str, dict[str, str]] = {}
    for seed, outputs in metrics.items():
        for output, own in outputs.items():
            for text in own.get("warnings", ()):
                found.setdefault(output, {})[str(seed)] = text
    return found


def _mean_and_std(values: Sequence[float | None]) -> dict[str, Any]:
    return {**mean_and_std(values), "values": list(values)}


def _protocol(suite: Suite, runs: Sequence[ModelRun], read: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """That all runs share; of splits, what the first one's is, as each has rows of its own."""
    if not read:
        return {}
    if suite.splits is None:
        return dict(require_one(read))
    own = [
        require_one({c.name: read[c.name] for c in runs if c.seed == s and c.name in read}) for s in _seeds(runs, read)
    ]
    return {**own[0], "text": f"{suite.splits} random splits of all rows, a fifth tested; the first: {own[0]['text']}"}


def _seeds(runs: Sequence[ModelRun], read: Mapping[str, Any]) -> list[int]:
    return sorted({run.seed for run in runs if run.name in read})
