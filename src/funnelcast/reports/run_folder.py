"""Reading what a report is of: a benchmark's folder, or that of one training run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from funnelcast.benchmarks.suite import slug
from funnelcast.errors import FunnelcastError, did_you_mean
from funnelcast.reports.training_log import Log, read_log

KINDS = {"benchmarks.json": "benchmark", "benchmark.json": "benchmark", "experiment.json": "train"}
"""What tells a run's folder, and the verb that makes it."""
PARTS = ("seeds", "failed", "figures", "cost", "gains")
"""Of every model in a benchmark's results."""


@dataclass(frozen=True)
class BenchmarkRun:
    """What a benchmark's folder holds."""

    folder: Path
    results: dict[str, Any]
    """As `results_of` made it."""
    settings: dict[str, Any]
    """By model."""
    files: dict[str, Any]
    """Of the table, with their checksums."""
    options: str
    """By which the benchmark was told of its data, if it was."""
    suite: str
    """The file of the benchmark, where it says it."""
    out: str
    """Of one of several data sets the folder of all, which the command names; else empty."""
    aucs: dict[str, dict[str, list[dict[str, Any]]]]
    """By model and output, each seed's with its interval; missing where runs are gone."""
    logs: dict[str, Log]
    """Of each model's first finished seed."""
    diagnoses: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class BenchmarkRuns:
    """What the folder of a benchmark on several data sets holds."""

    folder: Path
    results: dict[str, Any]
    sets: dict[str, BenchmarkRun]
    """By data set, those that have results."""
    suite: str
    options: str


@dataclass(frozen=True)
class TrainingRun:
    """What the folder of one training run holds."""

    folder: Path
    results: dict[str, Any]
    """Metrics by part and output."""
    settings: dict[str, Any]
    protocol: dict[str, Any]
    files: dict[str, Any]
    log: Log
    diagnosis: dict[str, Any]


def read_run(folder: Path, diagnosis: Mapping[str, Any] | None = None) -> BenchmarkRun | BenchmarkRuns | TrainingRun:
    """The run in a folder; `diagnosis` instead of that in its `diagnosis.json`. Raises FunnelcastError for a folder
    that is no run, is not finished, or is damaged."""
    if not folder.is_dir():
        raise FunnelcastError(f"{folder} is no folder; give the folder of a benchmark or of a training run")
    kind = next((name for name in KINDS if (folder / name).is_file()), "")
    if not kind:
        raise FunnelcastError(f"{folder} holds neither a benchmark nor a training run{_instead(folder)}")
    said, given = read_json(folder / kind), _diagnosis(folder, diagnosis)
    if not (folder / "results.json").is_file():
        raise FunnelcastError(
            f"{folder} is not finished: it has no results.json; run the same funnelcast {KINDS[kind]} again, it goes "
            "on where it stopped"
        )
    results = read_json(folder / "results.json")
    try:
        if kind == "benchmarks.json":
            return _benchmarks(folder, said, results, given)
        return (_benchmark if kind == "benchmark.json" else _training)(folder, said, results, given)
    except (KeyError, TypeError, AttributeError) as error:
        raise FunnelcastError(
            f"{folder}/results.json or {kind} lacks what a report needs ({type(error).__name__}: {error}); run the "
            "same command again to write it anew: what is finished is kept"
        ) from None


def read_json(path: Path) -> dict[str, Any]:
    """An object in a file. Raises FunnelcastError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FunnelcastError(f"{path} is damaged ({error}); run the same command again to write it anew") from None
    if not isinstance(found, dict):
        raise FunnelcastError(f"{path} is damaged: it holds no object; run the same command again to write it anew")
    return found


def _instead(folder: Path) -> str:
    """Where a run may be, of a folder that is none."""
    if (folder.parent / "experiment.json").is_file():
        return f"; its run is {folder.parent}"
    if (folder / "best" / "suite.toml").is_file():
        return f"; it is a search: run funnelcast benchmark {folder}/best/suite.toml and report that"
    runs = sorted(path.parent.name for path in folder.glob("*/experiment.json"))
    return f"; but these in it are runs: {', '.join(runs[:5])}" if runs else "; give what funnelcast made with --out"


def _diagnosis(folder: Path, given: Mapping[str, Any] | None) -> dict[str, Any]:
    path = folder / "diagnosis.json"
    return dict(given) if given is not None else read_json(path) if path.is_file() else {}


def _benchmark(folder: Path, said: dict[str, Any], results: dict[str, Any], diagnoses: dict[str, Any]) -> BenchmarkRun:
    models = results["models"]
    for name, model in models.items():
        if missing := [part for part in PARTS if part not in model]:
            raise KeyError(f"{', '.join(missing)} of {name}")
    for key in ("title", "protocol", "test_rows", "reference", "truth", "best"):
        results[key]
    for name in diagnoses:
        if name not in models and name not in said["models"]:  # the claim has those that were taken out too
            raise FunnelcastError(f"a diagnosis of {name!r}, which is no model here; {did_you_mean(name, models)}")
    logs, aucs = {}, {}
    for name, model in models.items():
        runs = [folder / "cells" / slug(name) / str(seed) for seed in model["seeds"]]
        if runs and all((run / "cell.json").is_file() for run in runs):
            found = [read_json(run / "cell.json")["metrics"] for run in runs]
            aucs[name] = {output: [each[output]["auc"] for each in found] for output in found[0]}
        if runs:
            logs[name] = read_log(runs[0] / "run" / "log.jsonl")
    named = said.get("options", ""), said.get("suite", ""), said.get("out", "")
    return BenchmarkRun(folder, results, said["models"], said["files"], *named, aucs, logs, diagnoses)


def _benchmarks(
    folder: Path, said: dict[str, Any], results: dict[str, Any], diagnoses: dict[str, Any]
) -> BenchmarkRuns:
    if diagnoses:
        raise FunnelcastError(
            f"{folder} is over several data sets; give diagnoses to the report of one, as {folder}/oulad"
        )
    sets = {
        source: _benchmark(folder / source, read_json(folder / source / "benchmark.json"), own, {})
        for source, own in results["sets"].items()
    }
    for key in ("title", "reference", "models", "sources", "left_out"):
        results[key]
    return BenchmarkRuns(folder, results, sets, said.get("suite", ""), said.get("options", ""))


def _training(folder: Path, said: dict[str, Any], results: dict[str, Any], diagnosis: dict[str, Any]) -> TrainingRun:
    for outputs in results.values():
        for metrics in outputs.values():
            metrics["auc"]["estimate"]
    log = read_log(folder / "log.jsonl")
    return TrainingRun(folder, results, said["experiment"], said["protocol"], said["files"], log, diagnosis)
