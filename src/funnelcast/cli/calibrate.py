"""`funnelcast calibrate`: a bundle whose probabilities agree with newer rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from funnelcast.cli.console import AsJson, Replace, out, progress_bars, show_json


def calibrate(
    bundle: Annotated[Path, typer.Argument(help="A trained bundle.")],
    rows: Annotated[Path, typer.Argument(help="Rows with labels (.parquet, .csv, .csv.gz), or a prepared table.")],
    to: Annotated[Path | None, typer.Option("--out", help="The calibrated bundle; by default BUNDLE itself.")] = None,
    part: Annotated[str, typer.Option(help="Of a prepared table: dev or test.")] = "test",
    by: Annotated[str | None, typer.Option(help="An id feature: offsets of its values, where they help.")] = None,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Map each step's log odds so that predictions agree with rows that training did not use, if that helps.

    Example: [bold]funnelcast calibrate run/bundle last-week.parquet --out calibrated[/]

    The map is chosen among none, affine and isotonic by the log-loss of held-out rows. AUCs given the step before stay.
    """
    from funnelcast.experiments.calibrate import calibrate as fit

    with progress_bars(as_json) as progress:
        made = fit(bundle, rows, to, part=part, by=by, replace=replace, progress=progress)
    if as_json:
        show_json(made)
    else:
        _show(made)


def _show(made: dict[str, Any]) -> None:
    from funnelcast.experiments.formatting import calibration_of

    out.print(f"Calibrated on {made['rows']:,} rows:")
    for name, said in made["steps"].items():
        out.print(f"  {calibration_of(name, said)}")
    for feature, count in (made["offsets"] or {}).items():
        out.print(f"  offsets of {count:,} values of {feature}")
    out.print(f"Wrote {made['bundle']}")
