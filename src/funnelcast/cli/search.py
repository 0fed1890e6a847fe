"""`funnelcast search`: settings for each model of a file, with the same budget, on dev rows alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from funnelcast.cli.console import AsJson, number, out, resumable, show, show_json


def search(
    file: Annotated[
        Path, typer.Argument(help="A TOML file of models and spaces, such as experiments/search/census.toml.")
    ],
    data: Annotated[Path | None, typer.Option(help="The prepared table, instead of the file's.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Of each model, instead of the file's.")] = None,
    to: Annotated[Path | None, typer.Option("--out", help="Folder of the search; runs/NAME by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Search settings by Optuna; the winners are written as experiment files, with a benchmark of them.

    The same command goes on where it was stopped or killed. The test part is never opened.

    Example: [bold]funnelcast search experiments/search/census.toml --trials 30[/]
    """
    from funnelcast.benchmarks.search.run import search as run

    with resumable(as_json) as progress:
        found = run(file, data, to, trials=trials, progress=progress, on_trial=_tell if not as_json else _silent)
    if as_json:
        show_json(found)
    else:
        show_found(found, to or Path("runs") / found["name"])


def show_found(found: dict[str, Any], folder: Path) -> None:
    """The best of each model, and how many trials it took."""
    rows = []
    for model, own in found["models"].items():
        states = [trial["state"] for trial in own["trials"]]
        best, first = own["best"], own["trials"][0]["value"] if own["trials"] else None
        counts = (len(states), states.count("pruned"), states.count("fail"))
        rows.append((model, *counts, number(first), number(best["value"]) if best else "–"))
    show(rows, ("model", "trials", "stopped early", "failed", f"first trial, {found['metric']}", "best"))
    for model, own in found["models"].items():
        if own["best"]:
            out.print(f"{model}: {', '.join(f'{path} = {value}' for path, value in own['best']['settings'].items())}")
    out.print(f"Winners: {folder}/best, a benchmark of them: funnelcast benchmark {folder}/best/suite.toml")


def _tell(model: str, trial: int, value: float | None) -> None:
    if not sys.stderr.isatty():
        sys.stderr.write(f"{model}, trial {trial + 1}: {'stopped' if value is None else f'{value:.4f}'}\n")


def _silent(model: str, trial: int, value: float | None) -> None:
    pass
