"""`funnelcast adapt`: a bundle and labelled rows to a delta."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from funnelcast.cli.console import AsJson, Replace, number, out, progress_bars, show, show_json

LARGEST = 10
"""Deltas that a table shows."""


def adapt(
    bundle: Annotated[Path, typer.Argument(help="A trained bundle.")],
    support: Annotated[Path, typer.Option(help="Rows with labels: .parquet, .csv, .csv.gz.")],
    to: Annotated[Path, typer.Option("--out", help="The delta, a .safetensors file; with --by a folder of them.")],
    key: Annotated[
        str | None, typer.Option(help="COLUMN=VALUE: the rows that the delta is for; all if they lack the column.")
    ] = None,
    by: Annotated[str | None, typer.Option(help="A column: one delta for each of its values.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE, such as steps=5; docs/reference/settings.md has all.")
    ] = None,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Adapt a network to few rows, such as those of a new campaign, as far as held-out rows say that it helps.

    Example: [bold]funnelcast adapt run/bundle --support log.parquet --by campaign --out deltas[/]

    The bundle stays as it is; `funnelcast predict --deltas` takes what is written.
    """
    from funnelcast.experiments.adapt import adapt_file
    from funnelcast.training.adapting import Adapting

    config = Adapting.from_dict(_settings(settings or []), source="--set") if settings else None
    pair = None if key is None else dict([_parted(key, "--key")])
    if key is not None and by is not None:
        raise typer.BadParameter("one delta has a key, and --by makes one of each value; take one", param_hint="--by")
    with progress_bars(as_json) as progress:
        made = adapt_file(bundle, support, to, key=pair, by=by, config=config, replace=replace, progress=progress)
    if as_json:
        show_json(made)
    elif by is None:
        show_delta(to, made["deltas"][0])
    else:
        show_deltas(to, by, made)


def show_delta(path: Path, made: dict[str, Any]) -> None:
    """What came of one."""
    out.print(f"Adapted to {made['rows']:,} rows: {_positives(made)}")
    if made["dropped"]:
        out.print(f"  {made['dropped']:,} rows contradict the funnel, and were left out")
    for step, reached in made["positives"].items():
        if reached in (0, made["rows"]):
            out.print(f"  {step}: {'no' if not reached else 'every'} row reached it; it learns from one class alone")
    loss, new = made["held_out_loss"], made["new_ids"]
    if made["reason"]:
        out.print(f"  Nothing is changed: {made['reason']}")
    else:
        steps = "1 step" if made["steps"] == 1 else f"{made['steps']} steps"
        losses = f"{number(loss['before'], 5)} before, {number(loss['after'], 5)} after {steps}"
        out.print(f"  held-out loss {losses}; new ids: {_counts(new) or 'none'}")
    if made["statistics"]:
        out.print(f"  the rows count in target statistics, by known values: {_counts(made['statistics'])}")
    out.print(f"Wrote {path}, {made['bytes'] / 1000:,.1f} kB")


def show_deltas(folder: Path, by: str, made: dict[str, Any]) -> None:
    """The largest of many, and what came of all."""
    deltas = sorted(made["deltas"], key=lambda delta: -delta["rows"])
    rows = [
        (
            delta["key"][by],
            f"{delta['rows']:,}",
            *(f"{reached:,}" for reached in delta["positives"].values()),
            number(delta["held_out_loss"]["before"], 5),
            number(delta["held_out_loss"]["after"], 5),
            delta["steps"],
            sum(delta["new_ids"].values()),
            f"{delta['bytes'] / 1000:,.1f}",
        )
        for delta in deltas[:LARGEST]
    ]
    head = (by, "rows", *deltas[0]["positives"], "held-out loss before", "after", "steps", "new ids", "kB")
    show(
        rows,
        head,
        f"{len(deltas):,} deltas in {folder}" + (f", the {LARGEST} largest" if len(deltas) > LARGEST else ""),
    )
    if same := sum(bool(delta["reason"]) for delta in deltas):
        out.print(f"  {same:,} of them change nothing; {folder / 'deltas.json'} says why")
    if made["skipped"]:
        out.print(f"  {made['skipped']:,} values have fewer than 2 rows, and no delta")
    out.print(f"  {sum(delta['bytes'] for delta in deltas) / 1e6:,.2f} MB in all")


def _positives(made: dict[str, Any]) -> str:
    return ", ".join(f"{step} {reached:,}" for step, reached in made["positives"].items())


def _counts(by_name: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in by_name.items())


def _settings(given: list[str]) -> dict[str, Any]:
    """As TOML reads a value; what it cannot read is a text."""
    found = {}
    for name, value in (_parted(text, "--set") for text in given):
        try:
            found[name] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[name] = value
    return found


def _parted(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=option)
    return name, value
