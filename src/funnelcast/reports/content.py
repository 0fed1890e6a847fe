"""What stands in a report, of either kind of run: sentences, tables, figures, and how to make the run again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from funnelcast.benchmarks.suite import slug
from funnelcast.reports.benchmark_figures import benchmark_figures
from funnelcast.reports.benchmark_tables import (
    cost_table,
    failed_table,
    main_table,
    oracle_table,
    quality_table,
    sharing_table,
)
from funnelcast.reports.conclusion import Conclusion, conclude, headline
from funnelcast.reports.diagnosis_figures import diagnosis_figures
from funnelcast.reports.diagnosis_tables import numbers_of
from funnelcast.reports.drawing.svg import Picture
from funnelcast.reports.published_figures import published_of, published_table
from funnelcast.reports.run_folder import BenchmarkRun, TrainingRun
from funnelcast.reports.table import Table
from funnelcast.reports.training_log import Log
from funnelcast.reports.training_tables import baselines_table, boosters_table, metrics_table
from funnelcast.reports.verdict import collapsed_in_models, collapsed_in_run, judge


@dataclass(frozen=True)
class Model:
    """A trained model, looked into."""

    name: str
    anchor: str
    pictures: Sequence[Picture]
    tables: Sequence[Table]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Content:
    """Everything that the page, the Markdown and the JSON are made of."""

    kind: str
    title: str
    summary: str
    """What it is, in a sentence."""
    protocol: Mapping[str, str]
    headline: str
    """All of it in a sentence, where one can say it."""
    conclusions: Sequence[Conclusion]
    tables: Sequence[Table]
    """The first one is the one to look at."""
    pictures: Sequence[Picture]
    models: Sequence[Model]
    commands: Sequence[str]
    files: Mapping[str, Any]
    results: Mapping[str, Any]
    diagnoses: Mapping[str, Any]
    published: Table | None = None
    remarks: Sequence[str] = field(default=())
    """On what is published."""

    @property
    def every_picture(self) -> list[Picture]:
        """In the order of the page."""
        return [*self.pictures, *(picture for model in self.models for picture in model.pictures)]


def of_benchmark(run: BenchmarkRun) -> Content:
    """A benchmark's report."""
    results, found = run.results, published_of(run.results)
    published, remarks = published_table(results, found) if found else (None, [])
    made = (main_table, failed_table, quality_table, sharing_table, oracle_table, cost_table)
    tables = [table for make in made if (table := make(results)) is not None]
    diagnoses = {name: _diagnosis(run.diagnoses.get(name, {}), run.logs.get(name)) for name in results["models"]}
    return Content(
        "benchmark",
        results["title"],
        _summary(results),
        results["protocol"],
        f"{collapsed_in_models(results)} {headline(results)}".strip(),
        conclude(results),
        tables,
        list(benchmark_figures(run)),
        [_model(name, diagnoses[name], run.logs.get(name), run.settings.get(name, {})) for name in results["models"]],
        list(_commands(run)),
        run.files,
        results,
        diagnoses,
        published,
        remarks,
    )


def of_training(run: TrainingRun) -> Content:
    """The report of one training run."""
    name = run.settings.get("name", "run")
    diagnosis = _diagnosis(run.diagnosis, run.log)
    model = run.settings.get("model", {}).get("name", "a model")
    parts = sorted(run.results, key=lambda part: part != "test")
    return Content(
        "run",
        name,
        f"One training run: {model}, seed {run.settings.get('seed', 0)}, measured on its {' and '.join(parts)} rows.",
        run.protocol,
        collapsed_in_run(run.results),
        judge(run.results, diagnosis.get("epochs", [])),
        [*(metrics_table(part, run.results[part]) for part in parts), *_baselines(run.results, parts)],
        [],
        [_model(name, diagnosis, run.log, run.settings, "")],
        [f"funnelcast train EXPERIMENT.toml --data TABLE --out {quoted(run.folder)}", _reporting(run)],
        run.files,
        run.results,
        {name: diagnosis},
    )


def _baselines(results: Mapping[str, Any], parts: Sequence[str]) -> Iterator[Table]:
    for part in parts:
        table = baselines_table(part, results[part])
        if table is not None:
            yield table


def _summary(results: Mapping[str, Any]) -> str:
    models = results["models"]
    seeds = sorted({len(model["seeds"]) for model in models.values()})
    which = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    over = f"Gains are over {results['reference']}."
    if results.get("splits") is not None:
        return f"{len(models)} models, each trained and measured on the same {which} random splits of all rows. {over}"
    seed = "seed" if seeds == [1] else "seeds"
    return (
        f"{len(models)} models with {which} {seed} each, trained on the same rows and measured on the same "
        f"{results['test_rows']:,} test rows. {over}"
    )


def _diagnosis(given: Mapping[str, Any], log: Log | None) -> dict[str, Any]:
    """With the epochs of the log where it has none."""
    return {"epochs": log.epochs if log else []} | {key: value for key, value in given.items() if value}


def _model(
    name: str, diagnosis: Mapping[str, Any], log: Log | None, settings: Mapping[str, Any], stem: str | None = None
) -> Model:
    place = slug(name)
    drawn = diagnosis_figures(diagnosis, f"{place}-" if stem is None else stem, name)
    boosters = boosters_table(log.boosters if log else [])
    tables = [*([boosters] if boosters else []), *numbers_of(diagnosis)]
    return Model(name, f"model-{place}", drawn, tables, settings)


def _commands(run: BenchmarkRun) -> Iterator[str]:
    seeds = max(
        (seed + 1 for m in run.results["models"].values() for seed in (*m["seeds"], *map(int, m["failed"]))), default=1
    )
    options = f" {run.options}" if run.options else ""
    repeats = "" if run.results.get("splits") else f" --seeds {seeds}"
    out = quoted(run.out or run.folder)
    yield f"funnelcast benchmark {quoted(run.suite or 'SUITE.toml')}{options}{repeats} --out {out}"
    yield _reporting(run)


def _reporting(run: BenchmarkRun | TrainingRun) -> str:
    return f"funnelcast report {quoted(run.folder)}"


def quoted(path: Path | str) -> str:
    """For a shell."""
    return shlex.quote(str(path))
