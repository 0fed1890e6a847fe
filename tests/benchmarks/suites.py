"""Small suites of experiments that train in a moment."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from funnelcast.benchmarks import run as benchmark_run
from funnelcast.benchmarks.model_run import run_model
from funnelcast.benchmarks.run_pool import ModelRun
from funnelcast.benchmarks.suite import slug
from funnelcast.data.table import Table
from funnelcast.experiments.experiment import Experiment

BOTTOM = 'model = {name = "shared_bottom", expert = [4], tower = [4], tower_dropout = []}\nstages = [{epochs = 1}]\n'
MMOE = 'model = {name = "mmoe", experts = 2, expert = [4], tower = [4], tower_dropout = []}\nstages = [{epochs = 1}]\n'


def write_suite(folder: Path, **changes: Any) -> Path:
    """suite.toml with two networks, and their experiments below it."""
    (folder / "models").mkdir(parents=True, exist_ok=True)
    for name, text in {"bottom": BOTTOM, "mmoe": MMOE}.items():
        (folder / f"models/{name}.toml").write_text(f'name = "{name}"\n{text}')
    models = {"Shared bottom": "models/bottom.toml", "MMoE": "models/mmoe.toml"}
    settings = {"name": "small", "seeds": 2, "models": models} | changes
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items() if not isinstance(value, dict)]
    for key, value in settings.items():
        if isinstance(value, dict):
            lines += [f"[{key}]", *(f"{json.dumps(k)} = {json.dumps(v)}" for k, v in value.items())]
    path = folder / "suite.toml"
    path.write_text("\n".join(lines))
    return path


def finished_runs(folder: Path, table: Table, models: dict[str, str], seeds: int = 2) -> list[ModelRun]:
    """Runs that were run in this process."""
    runs = []
    for model, text in models.items():
        (folder / "e.toml").write_text(text)
        for seed in range(seeds):
            experiment = Experiment.from_toml(folder / "e.toml", seed=seed, workers=1)
            run = ModelRun(model, seed, experiment, folder / "cells" / slug(model) / str(seed), table.folder)
            run.folder.mkdir(parents=True)
            run_model(experiment, table, run.folder)
            runs.append(run)
    return runs


def without_estimates(patch: pytest.MonkeyPatch) -> None:
    """Which are made in a process of seconds; `test_estimate` and one benchmark of `test_run` see that they are."""
    patch.setattr(benchmark_run, "estimate", lambda *_: {})


def in_this_process(patch: pytest.MonkeyPatch) -> None:
    """Benchmarks whose runs need no seconds to start: for what does not depend on processes."""

    def run_here(runs: Sequence[ModelRun], jobs: int, on_end: Callable[[ModelRun], None], workers: int) -> None:
        for each in runs:
            if not each.is_finished:
                each.folder.mkdir(parents=True)
                run_model(each.settings(workers), Table.open(each.table), each.folder)
                on_end(each)

    without_estimates(patch)
    patch.setattr(benchmark_run, "run_models", run_here)
