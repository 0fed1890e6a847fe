"""`funnelcast few-shot`: what few labelled rows of new campaigns are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from funnelcast.cli.console import AsJson, Replace, out, progress_bars, show, show_json


def few_shot(
    bundle: Annotated[Path, typer.Argument(help="A trained bundle.")],
    table: Annotated[Path, typer.Argument(help="The prepared table, whose test rows are of new values too.")],
    by: Annotated[str, typer.Option(help="A kept column; its values that test rows alone have are the tasks.")],
    to: Annotated[Path, typer.Option("--out", help="Folder of few-shot.json, .svg and .png.")],
    meta: Annotated[Path | None, typer.Option(help="A network trained with stages.meta, to compare.")] = None,
    output: Annotated[str | None, typer.Option(help="Such as conversion_given_click; else the first step.")] = None,
    size: Annotated[
        list[int] | None, typer.Option(min=0, help="Rows of the support; may be given again. 0, 16, 64, 256, 1024.")
    ] = None,
    query: Annotated[int, typer.Option(min=1, help="Rows that each task has beside them, at least.")] = 100,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Measure what adapting to few rows gains for campaigns that training has not seen, beside simpler means.

    Example: [bold]funnelcast few-shot run/bundle table --by campaign --out curves[/]

    Rows count that reached the step before the output's own.
    """
    from funnelcast.fewshot.protocol import SIZES
    from funnelcast.fewshot.run import few_shot as measure

    with progress_bars(as_json) as progress:
        found = measure(
            bundle,
            table,
            to,
            by=by,
            meta=meta,
            output=output,
            sizes=size or SIZES,
            query=query,
            replace=replace,
            progress=progress,
        )
    if as_json:
        show_json(found)
    else:
        _show(to, found)


def _show(folder: Path, found: dict[str, Any]) -> None:
    """Gains over the network as it is."""
    over, sizes = found["over"], found["sizes"]
    rows = [(name, *map(_cell, gains[over])) for name, gains in found["gain_over"].items() if name != over]
    head = (f"support, {found['sizes_of']}", *(f"{size:,}" for size in sizes))
    title = f"{found['output']}: log-loss saved over {over!r}, thousandths of a nat a row, {len(found['tasks'])} tasks"
    show(rows, head, title)
    out.print(f"Wrote {folder}: few-shot.json, few-shot.svg, few-shot.png")


def _cell(gain: dict[str, Any]) -> str:
    if gain["low"] is None:
        return "–"
    return f"{1e3 * gain['estimate']:+.2f} [{1e3 * gain['low']:+.2f}, {1e3 * gain['high']:+.2f}]"
