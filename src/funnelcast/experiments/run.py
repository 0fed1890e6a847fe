"""Running one experiment: prepared table in, run folder with log, checkpoint, bundle and results out.

RUN/experiment.json   what the run is of: settings, and the table's protocol and checksums
RUN/log.jsonl         one line per epoch, or per booster
RUN/checkpoint/       while training
RUN/bundle/           the trained model
RUN/results.json      metrics on the dev and test parts, with those of the baselines
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from funnelcast.boosting.stacked import Stacked
from funnelcast.data.files import alone_in, clear_stale, require_folder, write_atomic
from funnelcast.data.progress import Progress, silent
from funnelcast.data.table import PARTS, Table
from funnelcast.errors import ConfigError, FunnelcastError
from funnelcast.experiments.baselines.measure import Baselines
from funnelcast.experiments.calibrate import said_of
from funnelcast.experiments.evaluate import measure_part
from funnelcast.experiments.experiment import Experiment, experiment_of
from funnelcast.experiments.fit import fitted, workers_of
from funnelcast.experiments.warm_start import require_networks
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.predictor import Predictor, bundle_of
from funnelcast.training.callback import Callback, Callbacks, TrainBegin, TrainEnd
from funnelcast.training.checkpoint import drop_checkpoint


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    bundle: Bundle
    results: dict[str, Any]


def train(
    experiment: Experiment | Path | str | None,
    table: Table | Path | str,
    folder: Path | str,
    *,
    init: Bundle | Predictor | Path | str | None = None,
    parts: Sequence[str] = ("dev", "test"),
    baselines: bool | Baselines = True,
    progress: Progress = silent,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Train, or go on where a killed run of the same experiment and table stopped, and measure the `parts`.

    `experiment`: its TOML file too, or the name of a preset; `recommended` for none. The test part is not opened before
    training ends, and never where it is not among them. `init`: a bundle to start from. `baselines`: whether simple
    models are measured on the same rows, under "baselines" of every output; those of the table itself where several
    runs share them. `callbacks` follow the run, and may stop it. Raises FunnelcastError.
    """
    called = Callbacks(callbacks)
    experiment = experiment_of(experiment)
    table, folder = table if isinstance(table, Table) else Table.open(table), Path(folder)
    init = None if init is None else bundle_of(init)
    require_folder(folder)
    experiment.check(table.encoder, experiment.name)
    _check_negatives(experiment, table)
    if init is not None:
        require_networks(experiment.model, init)
    _claim(folder, experiment, table, init)
    if baselines is True:
        baselines = Baselines(table, workers_of(experiment), progress)
    with alone_in(folder):
        if (folder / "results.json").is_file():
            return _run(experiment, table, folder, init, parts, baselines or None, progress)
        with called.run(_begin(experiment, table, folder)):
            run = _run(experiment, table, folder, init, parts, baselines or None, progress, called)
            called.call("on_train_end", TrainEnd(folder, run.results))
        return run


def _begin(experiment: Experiment, table: Table, folder: Path) -> TrainBegin:
    rows = {part: table.rows(part) for part in PARTS}
    settings, steps = experiment.model_dump(mode="json"), table.schema.funnel.names
    return TrainBegin(folder, experiment.name, settings, rows, steps, (folder / "checkpoint").is_dir())


def _run(
    experiment: Experiment,
    table: Table,
    folder: Path,
    init: Bundle | None,
    parts: Sequence[str],
    baselines: Baselines | None,
    progress: Progress,
    callbacks: Callbacks | None = None,
) -> Run:
    """In a folder that is this run's alone."""
    finished = folder / "results.json"
    if finished.is_file():
        bundle, results = Bundle.load(folder / "bundle"), _read(finished)
    else:
        bundle, results = fitted(experiment, table, folder, init, progress, callbacks), {}
    missing = [part for part in parts if table.rows(part) and part not in results]
    if missing or not finished.is_file():
        results |= {part: _measured(bundle, table, part, baselines) for part in missing}
        bundle = replace(bundle, metrics=results)
        bundle.save(folder / "bundle", replace=True)
        write_atomic(finished, json.dumps(results, indent=1).encode())
    drop_checkpoint(folder / "checkpoint")
    shutil.rmtree(folder / "trees", ignore_errors=True)
    return Run(folder, bundle, results)


def _measured(bundle: Bundle, table: Table, part: str, baselines: Baselines | None) -> dict[str, Any]:
    """Metrics by output of a part; with each those of the baselines, if these are measured, and what `_of_step` has."""
    result, log_p, log_q = measure_part(bundle, table, part)
    outputs: dict[str, Any] = result["outputs"]
    for name, own in ({} if baselines is None else baselines.compared(part, log_p, log_q)).items():
        outputs[name]["baselines"] = own
    for output in table.schema.funnel.outputs:
        if output.given == (parent if (parent := bundle.model.parents[output.step]) >= 0 else None):
            outputs[output.name] |= _of_step(bundle, output.step)
    return outputs


def _of_step(bundle: Bundle, step: int) -> dict[str, Any]:
    """What boosted trees have of a step given its parent, and how it is calibrated, where that is so."""
    found: dict[str, Any] = {}
    if isinstance(bundle.model, Stacked):
        found["stacking"] = bundle.model.shares[step]._asdict()
    if bundle.calibration is not None:
        found["calibration"] = said_of(bundle.calibration.steps[step])
    return found


def _check_negatives(experiment: Experiment, table: Table) -> None:
    """Raises FunnelcastError where sampling negatives could not be undone exactly: where not all are known."""
    first = table.manifest["labels"]["train"][table.schema.funnel.names[0]]
    unobserved = table.rows("train") - first["observed"]
    if experiment.keep_negatives < 1 and unobserved:
        raise FunnelcastError(
            f"keep_negatives = {experiment.keep_negatives} needs the first step observed in every training row, and "
            f"{unobserved:,} rows of {table.folder} lack it; set keep_negatives = 1, or prepare without these rows"
        )


def _claim(folder: Path, experiment: Experiment, table: Table, init: Bundle | None) -> None:
    """Mark the run folder as this experiment's on this table, or see that it is. Raises FunnelcastError.

    A folder with other things in it is nobody's run, and stays as it is. A run that failed before its first checkpoint
    leaves nothing to lose: its folder is free for another.
    """
    claim = {"experiment": _settings(experiment), "protocol": table.protocol, "files": table.manifest["files"]}
    claim["init"] = init.fingerprint if init is not None else None
    claim = json.loads(json.dumps(claim))
    path = folder / "experiment.json"
    clear_stale(path)
    found = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    if found and path.name not in found:
        raise FunnelcastError(f"{folder} is not empty and holds no run; choose another folder with --out")
    if not found - {path.name, "log.jsonl"}:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(claim, indent=1).encode())
    elif (before := _completed(_read(path))) != claim:
        raise FunnelcastError(f"{folder} holds a run {_otherwise(before, claim)}; choose another folder with --out")


def _settings(experiment: Experiment) -> Any:
    """Return what decides a run, as JSON has it."""
    return experiment.model_dump(mode="json", exclude={"data", "workers", "checkpoint_seconds", "device"})


def _completed(claim: dict[str, Any]) -> dict[str, Any]:
    """Return a claim with the defaults of settings that its version did not know, so that its run goes on."""
    try:
        return {**claim, "experiment": _settings(Experiment.from_dict(claim["experiment"]))}
    except ConfigError:  # of settings that are no more
        return claim


def _otherwise(before: dict[str, Any], now: dict[str, Any]) -> str:
    """How the run of one claim is not that of another."""
    if before["experiment"] != now["experiment"]:
        return f"of another experiment: {_first_change(before['experiment'], now['experiment'])}"
    return "that started from another model" if before["init"] != now["init"] else "on another table"


def _first_change(before: Any, now: Any, name: str = "") -> str:
    """The first setting that is not the same, with both values."""
    for inner in [*before, *now] if isinstance(before, dict) and isinstance(now, dict) else []:
        if before.get(inner) != now.get(inner):
            return _first_change(before.get(inner), now.get(inner), f"{name}.{inner}".lstrip("."))
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        at = next(i for i, pair in enumerate(zip(before, now, strict=True)) if pair[0] != pair[1])
        return _first_change(before[at], now[at], f"{name}.{at}")
    return f"{name} is {json.dumps(before)} there, {json.dumps(now)} here"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FunnelcastError(f"{path} is damaged ({error}); delete {path.parent}, or choose another --out") from None
