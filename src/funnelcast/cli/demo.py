"""`funnelcast demo`: the whole job on a generated log."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from funnelcast.cli.console import Replace, out, progress_bars, show


def demo(
    to: Annotated[Path, typer.Option("--out", help="Folder for all that the demo makes.")] = Path("runs/demo"),
    rows: Annotated[int, typer.Option(help="Rows of the generated log; a third of them is the test part.")] = 300_000,
    realistic: Annotated[bool, typer.Option(help="Ali-CCP's own rates, 3.88 % and 0.53 %.")] = False,
    seed: Annotated[int, typer.Option(help="Of the log and of the model.")] = 0,
    replace: Replace = False,
) -> None:
    """Generate a log in Ali-CCP's raw format, prepare it, train MAN, evaluate it, and score five rows."""
    started = time.perf_counter()
    _make(to, rows, seed, realistic, replace)
    _show_scores(to)
    out.print(f"The demo took {time.perf_counter() - started:.0f} s. To go on:")
    for command in (
        f"funnelcast evaluate {to}/run/bundle {to}/table --by 301",
        f"funnelcast predict {to}/run/bundle {to}/table --out predictions.parquet",
        "funnelcast datasets census-income census",
        "funnelcast train experiments/census/man.toml --data census",
        "funnelcast prepare SCHEMA.toml --train LOG.parquet --out TABLE     (docs/guide/your-data.md)",
    ):
        out.print(f"  .venv/bin/{command}")


def _make(to: Path, rows: int, seed: int, realistic: bool, replace: bool) -> None:
    """Raw log, table, run and evaluation below `to`."""
    from functools import partial

    from funnelcast.cli.evaluate import show_metrics
    from funnelcast.data.datasets.aliccp.prepare import prepare_aliccp
    from funnelcast.data.datasets.generator.generate import REALISTIC, generate
    from funnelcast.data.files import new_folder
    from funnelcast.data.table import Table
    from funnelcast.experiments.evaluate import evaluate
    from funnelcast.experiments.experiment import Experiment
    from funnelcast.experiments.presets import PRESETS
    from funnelcast.experiments.run import train

    write = partial(generate, **REALISTIC) if realistic else generate
    with new_folder(to, replace=replace, mark="raw/generator.json") as folder, progress_bars(False) as progress:
        made = write(folder / "raw", rows, seed=seed, progress=progress)
        out.print(
            f"A generated log of {rows:,} rows in Ali-CCP's raw format: {made.train.click_rate:.2%} of impressions are "
            f"clicked, {made.train.conversion_rate:.2%} of clicks convert; {made.test.conversions:,} test conversions."
        )
        if realistic:
            out.print("With so few conversions the intervals cannot rank models.")
        files = {part: folder / "raw" / f"sample_skeleton_{part}.csv" for part in ("train", "test")}
        prepare_aliccp(files["train"], files["test"], folder / "table", progress=progress)
        table = Table.open(folder / "table")
        experiment = Experiment.from_toml(PRESETS["man-recommended"], seed=seed)
        run = train(experiment, table, folder / "run", progress=progress)
        result = evaluate(run.bundle, table)
    show_metrics(result)


def _show_scores(to: Path) -> None:
    from funnelcast.experiments.predict import first_rows

    table = first_rows(to / "run" / "bundle", to / "table", 5)
    head = [name for name in table.column_names if name == "sample_id" or name.startswith("p_")]
    rows = zip(*(table[name].to_pylist() for name in head), strict=True)
    show([[f"{v:.5f}" if isinstance(v, float) else v for v in row] for row in rows], head, "Five rows of the test part")
