"""Running one experiment with several seeds, and what they have in common."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from funnelcast.data.files import require_folder, write_atomic
from funnelcast.data.progress import Progress, silent
from funnelcast.data.table import Table
from funnelcast.errors import FunnelcastError
from funnelcast.experiments.experiment import Experiment
from funnelcast.experiments.presets import experiment_of
from funnelcast.experiments.run import train
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.predictor import Predictor, bundle_of


def train_seeds(
    experiment: Experiment | Path | str,
    data: Table | Path | str | None = None,
    seeds: int = 1,
    init: Bundle | Predictor | Path | str | None = None,
    out: Path | str | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train `seeds` models into `out`, or `out/seed-N` each where there are several; returns and writes the summary.

    `experiment`: its TOML file, or the name of a preset. `data`: the table, instead of the experiment's own; `init`: a
    bundle to start from. Every seed that is finished already is not trained again. Raises FunnelcastError.
    """
    source = experiment.name if isinstance(experiment, Experiment) else str(experiment)
    experiment = experiment_of(experiment)
    data = data or experiment.data
    if data is None:
        raise FunnelcastError(f'{source} names no data; add `data = "TABLE"`, or give --data TABLE')
    out = Path(out or Path("runs") / experiment.name)
    require_folder(out)
    table, start = data if isinstance(data, Table) else Table.open(data), None if init is None else bundle_of(init)
    experiment.check(table.encoder, source)
    wanted = range(experiment.seed, experiment.seed + seeds)
    runs = []
    for seed in wanted:
        target = out if seeds == 1 else out / f"seed-{seed}"
        runs.append(train(experiment.model_copy(update={"seed": seed}), table, target, init=start, progress=progress))
    summary = {
        "experiment": experiment.name,
        "protocol": table.protocol,
        "seeds": list(wanted),
        "mean": summarise([run.results for run in runs]),
        "warnings": [
            f"seed {seed}, {part}: {text}"
            for seed, run in zip(wanted, runs, strict=True)
            for part, outputs in run.results.items()
            for metrics in outputs.values()
            for text in metrics.get("warnings", ())
        ],
        "bundles": [str(run.folder / "bundle") for run in runs],
    }
    write_atomic(out / "summary.json", json.dumps(summary, indent=1).encode())
    return summary


def summarise(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over runs of every figure, by part and output; none where a run has none.

    One run has no deviation.
    """
    return {
        part: {
            name: {key: spread_of([figure_of(r[part][name], key) for r in results]) for key in FIGURES}
            for name in outputs
        }
        for part, outputs in results[0].items()
    }


FIGURES = ("auc", "log_loss", "normalised_entropy", "calibration_error", "observed_over_predicted")


def figure_of(metrics: Mapping[str, Any], key: str) -> float | None:
    """One of FIGURES, of an output's metrics as JSON has them."""
    value = metrics[key]["estimate"] if key == "auc" else metrics[key]
    return None if value is None else float(value)


def spread_of(values: Sequence[float | None]) -> dict[str, float | None]:
    """Mean and standard deviation; no mean where a value is missing, and no deviation of one."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return {"mean": None, "std": None}
    return {"mean": statistics.mean(known), "std": statistics.stdev(known) if len(known) > 1 else None}
