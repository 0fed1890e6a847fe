"""Running one experiment with several seeds, and what they have in common."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from funnelcast.data.files import require_folder, write_atomic
from funnelcast.data.progress import Progress, silent
from funnelcast.data.table import Table
from funnelcast.errors import FunnelcastError
from funnelcast.experiments.baselines.measure import Baselines
from funnelcast.experiments.experiment import Experiment, experiment_of
from funnelcast.experiments.fit import workers_of
from funnelcast.experiments.formatting import calibration_of, stacking_of
from funnelcast.experiments.presets import DEFAULT
from funnelcast.experiments.run import Run, train
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.predictor import Predictor, bundle_of
from funnelcast.training.callback import Callback


def train_seeds(
    experiment: Experiment | Path | str = DEFAULT,
    data: Table | Path | str | None = None,
    seeds: int = 1,
    init: Bundle | Predictor | Path | str | None = None,
    out: Path | str | None = None,
    progress: Progress = silent,
    *,
    baselines: bool = True,
    callbacks: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Train `seeds` models into `out`, or `out/seed-N` each where there are several; returns and writes the summary.

    `experiment`: its TOML file, or the name of a preset. `data`: the table, instead of the experiment's own; `init`: a
    bundle to start from; `baselines`: whether simple models are measured next to them, once for all seeds; `callbacks`
    follow each run. Every seed that is finished already is not trained again. Raises FunnelcastError.
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
    shared = Baselines(table, workers_of(experiment), progress) if baselines else False
    runs = []
    for seed in wanted:
        target, own = out if seeds == 1 else out / f"seed-{seed}", experiment.model_copy(update={"seed": seed})
        run = train(own, table, target, init=start, baselines=shared, progress=progress, callbacks=callbacks)
        runs.append(run)
    by_seed = dict(zip(wanted, runs, strict=True))
    summary = {
        "experiment": experiment.name,
        "protocol": table.protocol,
        "seeds": list(wanted),
        "mean": summarise([run.results for run in runs]),
        "baselines": _baselines(runs),
        "stacking": list(_stacking(by_seed)),
        "calibration": list(_calibration(by_seed)),
        "not_above_baselines": list(_not_above(by_seed)),
        "warnings": list(_collapsed(by_seed)),
        "bundles": [str(run.folder / "bundle") for run in runs],
    }
    write_atomic(out / "summary.json", json.dumps(summary, indent=1).encode())
    return summary


def _baselines(runs: Sequence[Run]) -> dict[str, Any]:
    """Figures by part, output and baseline, which no seed changes; empty where no run has them."""
    found: dict[str, Any] = {}
    for part, outputs in runs[0].results.items():
        for name in outputs:
            own = next((b for run in runs if (b := run.results[part][name].get("baselines"))), None)
            if own is not None:
                found.setdefault(part, {})[name] = own["figures"]
    return found


def _stacking(runs: Mapping[int, Run]) -> Iterator[str]:
    """What boosted trees have of each network, by seed."""
    for seed, run in runs.items():
        outputs: dict[str, Any] = next(iter(run.results.values()), {})
        own = {name: metrics["stacking"] for name, metrics in outputs.items() if "stacking" in metrics}
        said = [stacking_of(name, share) for name, share in own.items() if share["trees"]]
        if own:
            yield f"seed {seed}: " + ("; ".join(said) or "boosted trees bring nothing, and have no share")


def _calibration(runs: Mapping[int, Run]) -> Iterator[str]:
    """How each bundle is calibrated, by seed."""
    for seed, run in runs.items():
        outputs: dict[str, Any] = next(iter(run.results.values()), {})
        own = {name: metrics["calibration"] for name, metrics in outputs.items() if "calibration" in metrics}
        if own:
            yield f"seed {seed}: " + "; ".join(calibration_of(name, said) for name, said in own.items())


def _collapsed(runs: Mapping[int, Run]) -> Iterator[str]:
    """What has collapsed, of any part and seed."""
    for seed, run in runs.items():
        for part, outputs in run.results.items():
            for metrics in outputs.values():
                yield from (f"seed {seed}, {part}: {text}" for text in metrics.get("warnings", ()))


def _not_above(runs: Mapping[int, Run]) -> Iterator[str]:
    """Outputs that are not above a baseline, on the last part that was measured: on test, where there is one."""
    for seed, run in runs.items():
        part = list(run.results)[-1]
        for name, metrics in run.results[part].items():
            if said := metrics.get("baselines", {}).get("says"):
                yield f"seed {seed}, {part}: {name}: {'; '.join(said)}"


def summarise(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over runs of every figure, by part and output; none where a run has none.

    One run has no deviation.
    """
    return {
        part: {
            name: {key: mean_and_std([figure_of(r[part][name], key) for r in results]) for key in FIGURES}
            for name in outputs
        }
        for part, outputs in results[0].items()
    }


FIGURES = ("auc", "log_loss", "normalised_entropy", "calibration_error", "observed_over_predicted")


def figure_of(metrics: Mapping[str, Any], key: str) -> float | None:
    """One of FIGURES, of an output's metrics as JSON has them."""
    value = metrics[key]["estimate"] if key == "auc" else metrics[key]
    return None if value is None else float(value)


def mean_and_std(values: Sequence[float | None]) -> dict[str, float | None]:
    """Mean and standard deviation; no mean where a value is missing, and no deviation of one."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return {"mean": None, "std": None}
    return {"mean": statistics.mean(known), "std": statistics.stdev(known) if len(known) > 1 else None}
