"""`funnelcast train`: an experiment file and a table to a trained bundle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from funnelcast.cli.console import AsJson, number, out, resumable, show, show_json

if TYPE_CHECKING:
    from funnelcast.training.callback import Callback

FIGURES = ("auc", "log_loss", "calibration_error")


def train(
    experiment: Annotated[Path, typer.Argument(help="A TOML file, or the name of a preset.")] = Path("recommended"),
    data: Annotated[Path | None, typer.Option(help="The prepared table, instead of the file's `data`.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Train this many seeds, from the file's seed on.")] = 1,
    init: Annotated[Path | None, typer.Option(help="Start from a bundle; new ids get new rows.")] = None,
    to: Annotated[Path | None, typer.Option("--out", help="Folder of the run; runs/NAME by default.")] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines/--no-baselines", help="Measure simple models on the same rows.")
    ] = True,
    tensorboard: Annotated[Path | None, typer.Option(help="Folder for TensorBoard's files of the run.")] = None,
    mlflow: Annotated[str | None, typer.Option(help="Address of the MLflow server or database for the run.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train a model. Ctrl-C leaves a checkpoint; the same command goes on from it.

    Example: [bold]funnelcast train --data table --seeds 5[/]
    """
    from funnelcast.experiments.repeat import train_seeds

    with resumable(as_json) as progress:
        callbacks = list(_callbacks(tensorboard, mlflow))
        summary = train_seeds(experiment, data, seeds, init, to, progress, baselines=baselines, callbacks=callbacks)
    if as_json:
        show_json(summary)
    else:
        show_summary(summary)


def _callbacks(tensorboard: Path | None, mlflow: str | None) -> Iterator[Callback]:
    from funnelcast.callbacks.mlflow import MLflow
    from funnelcast.callbacks.tensorboard import TensorBoard

    if tensorboard is not None:
        yield TensorBoard(tensorboard)
    if mlflow is not None:
        yield MLflow(mlflow)


def show_summary(summary: dict[str, Any]) -> None:
    """Figures of dev and test over the seeds, those of the baselines below them, and where the bundles are."""
    for part, outputs in summary["mean"].items():
        measured = summary["baselines"].get(part, {})
        rows = [row for name, m in outputs.items() for row in _rows(name, m, measured.get(name, {}))]
        seeds = summary["seeds"]
        title = f"{part}, mean ± std of {len(seeds)} seeds" if len(seeds) > 1 else f"{part}, seed {seeds[0]}"
        show(rows, (title, "AUC", "log-loss", "calibration error"))
    for text in summary["stacking"]:
        out.print(f"Boosted trees, {text}")
    for text in summary["calibration"]:
        out.print(f"Calibration, {text}")
    for text in summary["not_above_baselines"]:
        out.print(f"NOT ABOVE A BASELINE: {text}")
    for text in summary["warnings"]:
        out.print(f"WARNING: {text}")
    out.print(f"Bundles: {', '.join(summary['bundles'])}")


def _rows(name: str, model: dict[str, Any], baselines: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Of an output: the model, then each baseline."""
    from funnelcast.experiments.repeat import figure_of

    yield name, *(_mean_and_std(model[key]) for key in FIGURES)
    for baseline, metrics in baselines.items():
        column = f" ({metrics['column']})" if metrics.get("column") else ""
        yield f"  {baseline}{column}", *(number(figure_of(metrics, key)) for key in FIGURES)


def _mean_and_std(figure: dict[str, float | None]) -> str:
    return number(figure["mean"]) + (f" ± {number(figure['std'])}" if figure["std"] is not None else "")
