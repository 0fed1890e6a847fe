"""The report of a benchmark on several data sets: the reference next to the best other model, then each data set."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from funnelcast.benchmarks.data_sets_markdown import GAIN_NOTE, Standing, left_out, standings
from funnelcast.benchmarks.markdown import figure
from funnelcast.benchmarks.suite import slug
from funnelcast.experiments.formatting import NONE, listing, number, p_text, short
from funnelcast.reports.benchmark_tables import failed_table, gain_cell, main_table, oracle_table, quality_table
from funnelcast.reports.conclusion import ALPHA, Conclusion, headline, outputs_of
from funnelcast.reports.content import Content, Model, quoted
from funnelcast.reports.drawing.row_charts import Dot, paint_dots
from funnelcast.reports.drawing.style import height_of, named
from funnelcast.reports.drawing.svg import Picture, picture
from funnelcast.reports.run_folder import BenchmarkRuns
from funnelcast.reports.table import Cell, Column, Table, text
from funnelcast.reports.verdict import collapsed_in_models

Results = Mapping[str, Any]
FIGURES = {
    "log_loss": ("Log-loss", 5, "Mean over the seeds, in nats a row; bold: the lowest."),
    "observed_over_predicted": ("Observed over predicted", 2, "Mean over the seeds: 1 is right in the mean."),
}


def of_data_sets(run: BenchmarkRuns) -> Content:
    """Its content."""
    results, found = run.results, list(standings(run.results))
    of_each = [
        table._replace(title=f"{source}: {table.title}")
        for source, own in results["sets"].items()
        for make in (main_table, failed_table, quality_table, oracle_table)
        if (table := make(own)) is not None
    ]
    settings = {name: own for each in run.sets.values() for name, own in each.settings.items()}
    return Content(
        "benchmarks",
        results["title"],
        _summary(results),
        {},
        _headline(results["reference"], found),
        list(_conclusions(results)),
        [_overview(results, found), *(_figures(results, key) for key in FIGURES), _seconds(results), *of_each],
        [_gains(results["reference"], found)] if any(each.gain for each in found) else [],
        [Model(name, f"model-{slug(name)}", [], [], settings.get(name, {})) for name in results["models"]],
        list(_commands(run)),
        {f"{source}/{name}": file for source, own in run.sets.items() for name, file in own.files.items()},
        results,
        {},
    )


def _summary(results: Results) -> str:
    sets = listing([f"{source} ({own['test_rows']:,} test rows)" for source, own in results["sets"].items()])
    return f"{len(results['models'])} models on {len(results['sets'])} data sets: {sets}."


def _headline(base: str, found: Sequence[Standing]) -> str:
    """On how many outputs the reference is ahead of the best other, level, and behind."""
    known = [each.gain["estimate"] for each in found if each.gain and _is_significant(each.gain)]
    ahead, behind = sum(gain > 0 for gain in known), sum(gain < 0 for gain in known)
    return (
        f"Of {len(found)} outputs, {base} is ahead of the best of the other models on {ahead}, behind it on {behind}, "
        f"with p < .05; on {len(found) - ahead - behind} neither is shown."
    )


def _is_significant(gain: Results) -> bool:
    return gain["p_adjusted"] is not None and gain["p_adjusted"] < ALPHA


def _conclusions(results: Results) -> Iterator[Conclusion]:
    for source, own in results["sets"].items():
        protocol = own["protocol"]
        said = [f"Protocol {protocol['fingerprint']}: {protocol['text']}."] if protocol else ["No run is finished."]
        yield Conclusion(source, [each for each in (collapsed_in_models(own), headline(own), *said) if each])
    if gone := left_out(results):
        yield Conclusion("", [f"{each}." for each in gone])


def _head(*more: Column) -> list[Column]:
    return [Column("set", is_text=True, falls=False), Column("output", is_text=True, falls=False), *more]


def _overview(results: Results, found: Sequence[Standing]) -> Table:
    base, models = results["reference"], results["models"]
    columns = _head(Column("positives"), *map(Column, models), Column("best other", is_text=True, falls=False))
    columns += [Column(f"gain of {base}"), Column("p", falls=False)]
    rows = []
    for each in found:
        most = max((auc for auc in each.aucs.values() if auc is not None), default=math.nan)
        aucs = [Cell(short(auc), auc, is_strong=auc == most) for auc in (each.aucs[name] for name in models)]
        gain = [Cell(NONE), Cell(NONE)]
        if each.gain and each.gain["estimate"] is not None:
            gain = [gain_cell(each.gain), Cell(p_text(each.gain["p_adjusted"]), each.gain["p_adjusted"])]
        positives = Cell(f"{each.positives:,}", each.positives)
        rows.append([text(each.source), text(each.output), positives, *aucs, text(each.best or NONE), *gain])
    note = f"{GAIN_NOTE.format(base=base)} Bold: the highest mean; ▲ ahead, ▼ behind with p < .05."
    return Table("AUC on every data set", columns, rows, note)


def _figures(results: Results, key: str) -> Table:
    title, digits, note = FIGURES[key]

    def mean(own: Results, model: str, output: str) -> float | None:
        found = figure(own["models"][model], output, key) if model in own["models"] else None
        return None if found is None else found["mean"]

    rows = []
    for source, own in results["sets"].items():
        for output in outputs_of(own):
            means = [mean(own, model, output) for model in results["models"]]
            least = min((value for value in means if value is not None), default=math.nan)
            runs = [Cell(short(v, digits), v, is_strong=key == "log_loss" and v == least) for v in means]
            rows.append([text(source), text(output), *runs])
    return Table(title, _head(*(Column(name, falls=False) for name in results["models"])), rows, note)


def _seconds(results: Results) -> Table:
    rows = []
    for source, own in results["sets"].items():
        costs = [own["models"].get(model, {}).get("cost") for model in results["models"]]
        means = [cost["seconds"]["mean"] if cost else None for cost in costs]
        rows.append([text(source), *(Cell(number(value), value) for value in means)])
    columns = [Column("set", is_text=True, falls=False), *(Column(name, falls=False) for name in results["models"])]
    return Table("Seconds of a run", columns, rows, "Mean over the seeds, on the machine of this run.")


def _gains(base: str, found: Sequence[Standing]) -> Picture:
    dots = [_dot(each) for each in found]
    paint = partial(paint_dots, dots=dots, label=f"gain of {named(base)} in AUC", zero=0.0, signs=True)
    caption = (
        f"Dot: mean AUC of {base} minus that of the best other model on that output; bar: its 95 % interval. Filled: "
        "p < .05 after Holm's correction. A bar across 0 says that neither is known to be better."
    )
    return picture("gains", f"Gain of {base} over the best other model", caption, paint, height_of(len(dots)))


def _dot(each: Standing) -> Dot:
    name = f"{each.source} {each.output}"
    if each.gain is None or each.gain["estimate"] is None:
        return Dot(name, math.nan)
    low, high = (math.nan if each.gain[key] is None else each.gain[key] for key in ("low", "high"))
    return Dot(name, each.gain["estimate"], low, high, is_filled=_is_significant(each.gain))


def _commands(run: BenchmarkRuns) -> Iterator[str]:
    counts = [
        seed + 1
        for own in run.results["sets"].values()
        for model in own["models"].values()
        for seed in (*model["seeds"], *map(int, model["failed"]))
    ]
    options = f" {run.options}" if run.options else ""
    is_split = any(own.get("splits") for own in run.results["sets"].values())
    options += "" if is_split else f" --seeds {max(counts, default=1)}"
    yield f"funnelcast benchmark {quoted(run.suite or 'SUITE.toml')}{options} --out {quoted(run.folder)}"
    yield f"funnelcast report {quoted(run.folder)}"
    yield from (f"funnelcast report {quoted(run.folder / source)}" for source in run.sets)
