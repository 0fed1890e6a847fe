"""Running a benchmark: a folder that goes on where it stopped.

RUN/benchmark.json   what it compares: settings of every model, and the table's protocol and checksums
RUN/table/           the prepared table, where none was given; RUN/generated-ROWS/ of a generated log
RUN/splits/N/        the tables of random splits, where these are requested
RUN/cells/MODEL/N/   a model with the seed N, on the split N
RUN/results.json, RUN/results.md

Of several data sets see sets.py.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from funnelcast.benchmarks.data_sets import LeftOut, benchmark_sets
from funnelcast.benchmarks.estimate import Estimate, estimate
from funnelcast.benchmarks.markdown import markdown
from funnelcast.benchmarks.results import results_of
from funnelcast.benchmarks.run_pool import ModelRun, run_models
from funnelcast.benchmarks.splits import split_tables
from funnelcast.benchmarks.suite import Suite, slug
from funnelcast.benchmarks.table_source import check_files, check_folder, check_models, open_data, split_key
from funnelcast.data.files import clear_stale, write_atomic
from funnelcast.data.progress import Progress, silent
from funnelcast.data.table import Table
from funnelcast.errors import ConfigError, FunnelcastError
from funnelcast.experiments.experiment import Experiment
from funnelcast.experiments.published import Published
from funnelcast.runtime.threads import cores

LEFT_OUT = {"data", "workers", "checkpoint_seconds", "device"}
"""Settings of an experiment that do not decide its figures."""


@dataclass(frozen=True)
class Plan:
    """What is about to run, and what it will take."""

    runs: list[ModelRun]
    """All of them."""
    estimates: Mapping[str, Estimate]
    """Of a run, by model, where there is one."""
    jobs: int
    table: Table
    title: str = ""
    """Of the benchmark."""

    @property
    def left(self) -> list[ModelRun]:
        """Runs that are not finished."""
        return [run for run in self.runs if not run.is_finished]

    @property
    def seconds(self) -> float:
        """Of all that is left, with the cores shared out."""
        known = [self.estimates[run.model].seconds for run in self.left if run.model in self.estimates]
        return sum(known) / self.jobs

    @property
    def bytes(self) -> int:
        """Of memory, at the same time."""
        known = [self.estimates[run.model].bytes for run in self.left if run.model in self.estimates]
        return sum(sorted(known, reverse=True)[: self.jobs])

    @property
    def disk(self) -> int:
        """Bytes of the scores that are left to be written."""
        return len(self.left) * self.table.rows("test") * len(self.table.schema.funnel.names) * 4


@dataclass(frozen=True)
class _Runner:
    """How benchmarks are run, whatever is compared."""

    jobs: int
    command: Mapping[str, str]
    progress: Progress
    on_plan: Callable[[Plan], None]
    on_end: Callable[[ModelRun], None]

    def run(self, suite: Suite, experiments: Mapping[str, Experiment], table: Table, folder: Path) -> dict[str, Any]:
        """Train and measure every model on one table. Raises FunnelcastError."""
        check_models(self.command["suite"], experiments, table)
        _claim(folder, suite, experiments, table, self.command)
        tables = [table] * suite.seeds
        if suite.splits is not None:
            tables = split_tables(table, folder / "splits", suite.splits, split_key(suite))
        runs = [
            ModelRun(m, seed, e.model_copy(update={"seed": seed}), folder / "cells" / slug(m) / str(seed), own.folder)
            for seed, own in enumerate(tables)
            for m, e in experiments.items()
        ]
        workers = max(1, cores() // self.jobs)
        plan = Plan(runs, estimate(runs, table.folder, workers), self.jobs, table, suite.heading)
        self.on_plan(plan)
        ended = len(runs) - len(plan.left)

        def tell(run: ModelRun) -> None:
            nonlocal ended
            ended += 1
            note = run.name + (" FAILED" if run.failure else "")
            self.progress(f"benchmark {suite.name}", ended, len(runs), "runs", note)
            self.on_end(run)

        run_models(runs, self.jobs, tell, workers)
        return write_results(folder, suite, runs, table)


def benchmark(
    file: Path | str,
    data: Path | str | None = None,
    out: Path | str | None = None,
    *,
    seeds: int | None = None,
    generated: int | None = None,
    files: Mapping[str, Path | str] | None = None,
    jobs: int = 1,
    progress: Progress = silent,
    on_plan: Callable[[Plan], None] = lambda plan: None,
    on_end: Callable[[ModelRun], None] = lambda run: None,
    on_left_out: Callable[[LeftOut], None] = lambda left: None,
) -> dict[str, Any]:
    """Train and measure every model of the suite `file` with every seed; returns and writes the results.

    `data`: the prepared table, instead of the suite's own; `generated`: rows of a generated log to take instead;
    `files`: by source, where its files are; `jobs`: runs side by side. Finished runs are not run again; those that
    failed are. Of a suite with `sources` the results have those of each in `sets`, and what was left out. Raises
    FunnelcastError, also for both `data` and `generated`.
    """
    if data is not None and generated is not None:
        raise FunnelcastError(
            f"--data {data} and --generated {generated} were both given, and all models see one table; leave one out"
        )
    changes: dict[str, Any] = {"seeds": seeds} if seeds is not None else {}
    if generated is not None:
        changes |= {"source": "generated", "sources": [], "rows": generated, "data": None}
    elif data is not None:
        changes |= {"source": None, "sources": []}
    suite, experiments = Suite.read(file, **changes)
    suite = check_files(suite, files or {})
    folder = Path(out or Path("runs") / suite.name)
    command = {"suite": str(file), "options": _options(data, generated, files or {})}
    command |= {"out": str(folder)} if suite.sources else {}
    runner = _Runner(jobs, command, progress, on_plan, on_end)
    if suite.sources:
        return benchmark_sets(suite, experiments, Path(file), folder, command, runner.run, progress, on_left_out)
    check_folder(folder, "benchmark")
    table = open_data(suite, Path(file), None if data is None else Path(data), folder, progress)
    return runner.run(suite, experiments, table, folder)


def _options(data: Path | str | None, generated: int | None, files: Mapping[str, Path | str]) -> str:
    """As a shell takes them."""
    said = [("--data", data), ("--generated", generated), *(("--files", f"{s}={path}") for s, path in files.items())]
    return " ".join(f"{name} {shlex.quote(str(value))}" for name, value in said if value is not None)


def write_results(folder: Path, suite: Suite, runs: list[ModelRun], table: Table) -> dict[str, Any]:
    """`results.json` and `results.md` of the runs that are finished."""
    results = results_of(suite, runs, table)
    write_atomic(folder / "results.json", json.dumps(results, indent=1, allow_nan=False).encode())
    published = Published.of(suite.published) if suite.published else None
    write_atomic(folder / "results.md", markdown(results, published).encode())
    return results


def _claim(
    folder: Path, suite: Suite, experiments: Mapping[str, Experiment], table: Table, command: Mapping[str, str]
) -> None:
    """Mark the folder as of these models on this table, or see that it is; models may be added to it. Raises
    FunnelcastError."""
    path = folder / "benchmark.json"
    clear_stale(path)
    settings = {name: _settings(experiment) for name, experiment in experiments.items()}
    said = {"name": suite.name, "protocol": table.protocol, "files": table.manifest["files"], "models": settings}
    said |= {"split": suite.splits is not None, "by": split_key(suite)}
    said = json.loads(json.dumps(said | {"table": str(table.folder.resolve()), **command}))
    if path.is_file():
        before = json.loads(path.read_text())
        if (before["protocol"], before["files"]) != (said["protocol"], said["files"]):
            raise FunnelcastError(
                f"{folder} holds a benchmark on another table, {before['protocol']['name']} "
                f"({before['protocol']['fingerprint']}); figures of two tables are not mixed: choose another --out"
            )
        if (before.get("split", False), before.get("by")) != (said["split"], said["by"]):
            raise FunnelcastError(f"{folder} holds a benchmark with another kind of splits; choose another --out")
        for model, own in said["models"].items():
            place = folder / "cells" / slug(model)
            if not _are_same(before["models"].get(model, own), own) and place.exists():
                raise FunnelcastError(
                    f"{folder} has runs of {model} with other settings; delete {place} to run it again, or choose "
                    "another --out"
                )
        said["models"] = before["models"] | said["models"]
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(said, indent=1).encode())


def _settings(experiment: Experiment) -> dict[str, Any]:
    """Those that all runs of a model have in common, as JSON has them."""
    return experiment.model_dump(mode="json", exclude=LEFT_OUT | {"seed"})


def _are_same(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Settings that a model's runs were made with, and those of now; one that did not exist then had its default."""
    try:
        return _settings(Experiment.from_dict(before)) == now
    except ConfigError:
        return False
