"""`funnelcast report`: a run as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from funnelcast.cli.console import AsJson, out, progress_bars, show_json


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a benchmark, or of a training run.")],
    data: Annotated[Path | None, typer.Option(help="The prepared table; a benchmark knows its own.")] = None,
    by: Annotated[
        str | None, typer.Option(help="A kept column or id feature: calibration of its largest groups.")
    ] = None,
    item: Annotated[str | None, typer.Option(help="The id feature by whose frequency AUCs are told.")] = None,
    diagnosis: Annotated[bool, typer.Option(help="Look into the models: parts, gradients, calibration, time.")] = True,
    to: Annotated[Path | None, typer.Option("--out", help="Folder of the report; RUN/report by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a page of a run: what was compared, what it says, tables that sort, figures; one file that needs no other.

    A report that stands there is replaced. Of a training run models are looked into where --data says its table.

    Example: [bold]funnelcast report runs/generated[/]
    """
    from funnelcast.reports.diagnosis.diagnose import diagnose_run, is_due
    from funnelcast.reports.write import report as write

    with progress_bars(as_json) as progress:
        if diagnosis and is_due(run, anew=bool(data or by or item)):
            diagnose_run(run, data, by=by, item=item, progress=progress)
    said = write(run, to)
    folder = to or run / "report"
    if as_json:
        show_json(said)
    else:
        out.print(f"The page: {folder}/report.html\n  as text: {folder}/report.md\n  all numbers: {folder}/report.json")
        out.print(f"  {len(said['figures'])} figures: {folder}/figures")
