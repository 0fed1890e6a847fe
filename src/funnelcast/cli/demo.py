"""`funnelcast demo`: the whole job on a generated log, then a real funnel with baselines and a report."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from funnelcast.cli.console import AsJson, Replace, out, progress_bars, show, show_json
from funnelcast.cli.evaluate import show_metrics
from funnelcast.cli.train import show_summary


def demo(
    to: Annotated[Path, typer.Option("--out", help="Folder for all that the demo makes.")] = Path("runs/demo"),
    rows: Annotated[int, typer.Option(help="Rows of the generated log; a third of them is the test part.")] = 300_000,
    realistic: Annotated[bool, typer.Option(help="Ali-CCP's own rates, 3.88 % and 0.53 %.")] = False,
    seed: Annotated[int, typer.Option(help="Of the log and of the model.")] = 0,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Generate a log in Ali-CCP's raw format, prepare it, train `recommended`, evaluate it, and score five rows; then
    train on a real funnel that is shipped, oulad, with simple models next to it, and write the report."""
    from funnelcast.experiments.predict import first_rows

    started = time.perf_counter()
    made = _make(to, rows, seed, realistic, replace, as_json)
    scored = first_rows(to / "run" / "bundle", to / "table", 5)
    if not as_json:
        show_metrics(made["evaluation"])
        _show_scores(scored)
        out.print("Now a real funnel: 32,593 course registrations of the Open University (oulad, CC BY 4.0).")
    real = _oulad(to / "oulad", seed, as_json)
    if as_json:
        show_json({**made, "scored": scored.to_pylist(), "oulad": real})
        return
    show_summary(real)
    out.print(f"The report, a page that needs no network: {real['report']}")
    out.print(f"The demo took {time.perf_counter() - started:.0f} s. To go on:")
    for command in (
        f"funnelcast evaluate {to}/oulad/run/bundle {to}/oulad/table --by campaign",
        f"funnelcast report {to}/oulad/run --data {to}/oulad/table     (looks into the model, which takes longer)",
        f"funnelcast predict {to}/run/bundle {to}/table --out predictions.parquet",
        "funnelcast datasets census-income census",
        "funnelcast train experiments/census/man.toml --data census",
        "funnelcast prepare SCHEMA.toml --train LOG.parquet --out TABLE     (docs/tutorials/own-log.md)",
    ):
        out.print(f"  .venv/bin/{command}")


def _make(to: Path, rows: int, seed: int, realistic: bool, replace: bool, quiet: bool) -> dict[str, Any]:
    """Raw log, table and run below `to`; returns the log's counts and the evaluation."""
    from funnelcast.data.datasets.aliccp.prepare import prepare_aliccp
    from funnelcast.data.datasets.generator.generate import generate
    from funnelcast.data.files import new_folder
    from funnelcast.data.table import Table
    from funnelcast.experiments.evaluate import evaluate
    from funnelcast.experiments.experiment import Experiment
    from funnelcast.experiments.presets import DEFAULT, PRESETS
    from funnelcast.experiments.run import train

    with new_folder(to, replace=replace, mark="raw/generator.json") as folder, progress_bars(quiet) as progress:
        made = generate(folder / "raw", rows, seed=seed, realistic=realistic, progress=progress)
        if not quiet:
            _show_log(rows, made.train, made.test, realistic)
        files = {part: folder / "raw" / f"sample_skeleton_{part}.csv" for part in ("train", "test")}
        prepare_aliccp(files["train"], files["test"], folder / "table", progress=progress)
        table = Table.open(folder / "table")
        experiment = Experiment.from_toml(PRESETS[DEFAULT], seed=seed)
        run = train(experiment, table, folder / "run", baselines=False, progress=progress)
        result = evaluate(run.bundle, table)
    return {"log": {"train": asdict(made.train), "test": asdict(made.test)}, "evaluation": result}


def _oulad(folder: Path, seed: int, quiet: bool) -> dict[str, Any]:
    """Table, run and report of oulad in `folder`; returns the summary of the training, and the page as `report`."""
    from funnelcast.data.datasets.funnels.prepare import prepare_funnel
    from funnelcast.experiments.experiment import Experiment
    from funnelcast.experiments.presets import DEFAULT, PRESETS
    from funnelcast.experiments.repeat import train_seeds
    from funnelcast.reports.write import report

    table, run = folder / "table", folder / "run"
    with progress_bars(quiet) as progress:
        prepare_funnel("oulad", table, progress=progress)
        summary = train_seeds(Experiment.from_toml(PRESETS[DEFAULT], seed=seed), table, out=run, progress=progress)
    report(run)
    return {**summary, "report": str(run / "report" / "report.html")}


def _show_log(rows: int, train: Any, test: Any, realistic: bool) -> None:
    out.print(
        f"A generated log of {rows:,} rows in Ali-CCP's raw format: {train.click_rate:.2%} of impressions are "
        f"clicked, {train.conversion_rate:.2%} of clicks convert; {test.conversions:,} test conversions."
    )
    if realistic:
        out.print("With so few conversions the intervals cannot rank models.")


def _show_scores(table: Any) -> None:
    head = [name for name in table.column_names if name == "sample_id" or name.startswith("p_")]
    rows = zip(*(table[name].to_pylist() for name in head), strict=True)
    show([[f"{v:.5f}" if isinstance(v, float) else v for v in row] for row in rows], head, "Five rows of the test part")
