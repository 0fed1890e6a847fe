"""Small finished runs to report, and what a diagnosis of a model looks like."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from funnelcast.benchmarks.results import results_of
from funnelcast.benchmarks.suite import Suite
from funnelcast.experiments.run import train
from tests import tiny
from tests.benchmarks.suites import BOTTOM, MMOE, finished_runs

ODD = 'MMoE <b> & "two"'
"""A model's name that must not become part of the page's code."""
MODELS = {"bottom": BOTTOM, ODD: MMOE}
OUTPUTS = ("click", "conversion", "conversion_given_click")


def write_benchmark(folder: Path) -> Path:
    """Two models with two seeds, one that failed and one that was not run."""
    table = tiny.write_table(folder / "table", test=400)
    runs = finished_runs(folder, table, MODELS)
    failed = replace(runs[0], model="broken", folder=folder / "cells/broken/0")
    failed.folder.mkdir(parents=True)
    (failed.folder / "failed.txt").write_text("a trace\nout of <memory>")
    named = dict.fromkeys([*MODELS, "broken", "absent"], Path("x.toml"))
    results = results_of(Suite(name="small", title="Small & quick", seeds=2, models=named), [*runs, failed], table)
    (folder / "results.json").write_text(json.dumps(results))
    settings = {model: runs[0].experiment.model_dump(mode="json") for model in named}
    said = {"name": "small", "protocol": table.protocol, "files": table.manifest["files"], "models": settings}
    (folder / "benchmark.json").write_text(json.dumps(said))
    return folder


def write_training(folder: Path) -> Path:
    """One network of two stages."""
    train(tiny.experiment(), tiny.write_table(folder / "table", test=400), folder / "run")
    return folder / "run"


def diagnosis() -> dict[str, Any]:
    """Everything that there can be."""
    return {
        "epochs": [epoch(i) for i in range(5)],
        "calibration": {
            "click": [bins(None, 0.02), bins("scenario 1", 0.02), bins("scenario <2>", 0.02)],
            "conversion": [bins(None, 0.5)],
        },
        "gates": {step: gate() for step in ("click", "conversion")},
        "attention": [
            {"parent": "click", "child": "conversion", "mean": 0.4, "quantiles": [0.1, 0.3, 0.4, 0.5, 0.7]},
        ],
        "conflict": [
            {"a": "click", "b": "conversion", "cosine": c, "low": low, "high": high, "batches": 20, "group": group}
            for group, c, low, high in (("embedding", -0.1, -0.2, -0.02), ("all shared", 0.1, None, None))
        ],
        "frequency": {"field": "item", "outputs": {output: buckets() for output in OUTPUTS}},
        "scores": {"click": {"edges": [-3.0, -2.0, -1.0, 0.0], "reached": [1, 5, 9], "not": [400, 300, 0]}},
        "time": [
            {"part": "forward", "seconds": 0.01, "share": 0.25},
            {"part": "backward", "seconds": 0.03, "share": 0.75},
        ],
    }


def epoch(i: int) -> dict[str, Any]:
    """The third is the best; the last is of a second stage, and one AUC is not known."""
    return {
        "stage": "general" if i < 4 else "top",
        "epoch": i % 4,
        "loss": {"click": 0.2 - 0.01 * i, "conversion": 0.01 - 0.001 * i},
        "task_weights": {"click": 1.0, "conversion": 1.0 + 0.1 * i},
        "dev_auc": {"click": 0.6 + 0.02 * i, "conversion": None if i == 1 else 0.7, "conversion_given_click": None},
        "dev_log_loss": {"click": 0.2, "conversion": 0.01},
        "is_best": i in (0, 2, 4),
        "seconds": 12.0,
        "rows_per_s": 25000,
    }


def bins(group: str | None, rate: float) -> dict[str, Any]:
    """With an empty one, that observed nothing."""
    found = [
        {"predicted": rate * f, "observed": 0.9 * rate * f, "low": 0.8 * rate * f, "high": rate * f, "rows": 50}
        for f in (0.2, 0.5, 1.0, 1.6)
    ]
    return {"group": group, "rows": 200, "bins": [found[0] | {"observed": 0.0, "low": 0.0}, *found[1:]]}


def gate() -> dict[str, Any]:
    """Of four experts."""
    shares = {"own 1": 0.4, "own 2": 0.3, "shared 1": 0.2, "shared 2": 0.1}
    experts = [{"name": name, "share": share} for name, share in shares.items()]
    return {"entropy": 1.1, "most": math.log(4), "experts": experts}


def buckets() -> list[dict[str, Any]]:
    """The first one without an AUC."""
    none = {
        "name": "new",
        "rows": 90,
        "positives": 3,
        "auc": None,
        "low": None,
        "high": None,
        "note": "too few positives",
    }
    some = {"name": "head", "rows": 1_200_000, "positives": 40_000, "auc": 0.7, "low": 0.69, "high": 0.71, "note": ""}
    return [none, some]
