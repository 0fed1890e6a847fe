"""`funnelcast benchmark`: a table of models, with repeats and intervals."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from funnelcast.cli.console import AsJson, number, out, resumable, show, show_json
from funnelcast.errors import FunnelcastError

if TYPE_CHECKING:
    from funnelcast.benchmarks.data_sets import LeftOut
    from funnelcast.benchmarks.run import Plan
    from funnelcast.benchmarks.run_pool import ModelRun


def benchmark(
    suite: Annotated[Path, typer.Argument(help="A TOML file of models, such as experiments/tables/generated.toml.")],
    data: Annotated[Path | None, typer.Option(help="The prepared table that all models see.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Repeats of each model, instead of the file's.")] = None,
    generated: Annotated[
        int | None, typer.Option(min=1000, help="Take a generated log of so many rows, with known true probabilities.")
    ] = None,
    files: Annotated[
        list[str] | None, typer.Option(metavar="SOURCE=PATH", help="Files of hotel, fbads or ml100k; may be repeated.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs side by side; they share the cores.")] = 1,
    to: Annotated[Path | None, typer.Option("--out", help="Folder of the run; runs/NAME by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train every model with every seed on the same rows, and compare them with intervals; on several data sets, if the
    file names them.

    The same command goes on where it was stopped or killed; what is finished is not run again.

    Example: [bold]funnelcast benchmark experiments/tables/generated.toml --seeds 3[/]
    """
    from funnelcast.benchmarks import run

    watch: dict[str, Any] = {} if as_json else {"on_plan": show_plan, "on_end": tell_end, "on_left_out": tell_left_out}
    named = _files(files or [])
    with resumable(as_json) as progress:
        results = run.benchmark(
            suite, data, to, seeds=seeds, generated=generated, files=named, jobs=jobs, progress=progress, **watch
        )
    folder = to or Path("runs") / results["name"]
    if as_json:
        show_json(results)
    elif "sets" in results:
        show_sets(results, folder)
    else:
        show_results(results, folder)
    every = results.get("sets", {"": results}).values()
    if any(model["failed"] for own in every for model in own["models"].values()):
        raise typer.Exit(1)


def _files(said: list[str]) -> dict[str, str]:
    found = {}
    for text in said:
        source, _, path = text.partition("=")
        if not (source and path):
            raise FunnelcastError(f"--files {text} is not SOURCE=PATH; write --files hotel=hotel_bookings.csv")
        found[source] = path
    return found


def show_plan(plan: Plan) -> None:
    """What is about to run, on stderr, before it starts."""
    left, done = plan.left, len(plan.runs) - len(plan.left)
    if not left:
        return
    rows = []
    for model in dict.fromkeys(run.model for run in left):
        own, known = sum(run.model == model for run in left), plan.estimates.get(model)
        cost = (_time(known.seconds), f"{known.bytes / 1e6:,.0f}") if known else ("–", "–")
        rows.append((model, own, *cost, "finished runs" if known and known.is_measured else "a few batches"))
    show(rows, ("model", "runs", "time a run", "MB", "measured on"))
    side = f", {plan.jobs} side by side" if plan.jobs > 1 else ""
    out.print(
        f"{plan.title}: {len(left)} runs to run{side}, {done} finished: about {_time(plan.seconds)}, "
        f"{plan.bytes / 1e6:,.0f} MB of memory, "
        f"{plan.disk / 1e6:,.0f} MB of disk for scores. Epochs are a guess until a run is finished."
    )


def tell_end(run: ModelRun) -> None:
    """Where stderr is no terminal, which has a bar: a line for each run."""
    if not sys.stderr.isatty():
        aucs = {n: m["auc"]["estimate"] for n, m in run.read()["metrics"].items()} if run.is_finished else {}
        aucs_text = ", ".join(f"{name} {number(auc)}" for name, auc in aucs.items())
        sys.stderr.write(f"{run.name}: {aucs_text or f'failed: {run.failure.splitlines()[-1]}'}\n")


def tell_left_out(left: LeftOut) -> None:
    """A line, on stderr, before anything runs."""
    sys.stderr.write(f"{left}\n")


def show_sets(results: dict[str, Any], folder: Path) -> None:
    """The table over all data sets, those of each, and what is left out."""
    from funnelcast.benchmarks.data_sets_markdown import left_out, overview

    for source, own in results["sets"].items():
        show_results(own, folder / source)
    head, rows = overview(results)
    show(rows, head, results["title"])
    for text in left_out(results):
        out.print(text)
    out.print(f"Over all sets: {folder}/results.md, as a page: funnelcast report {folder}")


def show_results(results: dict[str, Any], folder: Path) -> None:
    """The tables, and what failed."""
    from funnelcast.benchmarks.markdown import tables, warnings

    for head, rows in tables(results):
        show(rows, head)
    for text in warnings(results):
        out.print(text)
    for name, model in results["models"].items():
        for seed, why in model["failed"].items():
            out.print(f"{name}, seed {seed} failed: {why.splitlines()[-1]}\n  its log: {folder}/cells")
    out.print(f"Intervals, costs and published figures: {folder}/results.md, all numbers: {folder}/results.json")


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
