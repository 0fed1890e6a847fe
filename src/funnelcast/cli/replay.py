"""`funnelcast replay`: logged rows of a server, scored again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from funnelcast.cli.console import AsJson, number, out, progress_bars, show, show_json


def replay(
    bundle: Annotated[Path, typer.Argument(help="The bundle that answered, or with --compare any one.")],
    log: Annotated[
        list[Path], typer.Argument(help="Files of `funnelcast serve --log-rows`, or folders that hold some.")
    ],
    deltas: Annotated[Path | None, typer.Option(help="The deltas that the server had, if it had some.")] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Measure how far this bundle is from the logged answers of any bundle.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Score logged rows again, and compare the probabilities with those that were answered, bit for bit.

    Exit status 0 where all are equal, 1 where some differ; the first of these are named. With --compare the paired
    difference between this bundle and the log, and 0.
    """
    from funnelcast.server import replay as replaying

    with progress_bars(as_json) as progress:
        run = replaying.compare_with_log if compare else replaying.replay
        found = run(bundle, log, deltas=deltas, progress=progress)
    if as_json:
        show_json(found)
    elif compare:
        _show_difference(found)
    else:
        _show_equality(found)
    if not compare and found["equal"] < found["rows"]:
        raise typer.Exit(1)


def _show_equality(found: dict[str, Any]) -> None:
    rows = found["rows"]
    out.print(f"{rows:,} rows of {found['requests']:,} requests in {found['files']:,} files, {found['equal']:,} equal")
    of_outputs = found["outputs"].items()
    show(
        [
            (name, f"{each['equal']:,}", f"{rows - each['equal']:,}", f"{each['largest']:.3g}")
            for name, each in of_outputs
        ],
        ("output", "equal", "other", "largest difference"),
    )
    for each in found["differing"]:
        values = f"{each['output']} was {each['logged']!r}, is {each['now']!r}"
        out.print(f"  {each['file']}, row {each['row']}: {values}")


def _show_difference(found: dict[str, Any]) -> None:
    out.print(
        f"{found['rows']:,} rows of {found['requests']:,} requests in {found['files']:,} files, answered by "
        f"{', '.join(found['logged_bundles'])}, compared with {found['bundle']}"
    )
    rows = []
    for name, of in found["outputs"].items():
        error = "–" if of["standard_error"] is None else f"{of['standard_error']:.2g}"
        logits = [f"{of['logit_difference'][level]:+.3g}" for level in ("p1", "p50", "p99")]
        means = [number(of["logged_mean"], 6), number(of["bundle_mean"], 6)]
        rows.append((name, *means, f"{of['difference']:+.3g} ± {error}", f"{of['largest']:.3g}", *logits))
    logit = [f"logit, {level} %" for level in (1, 50, 99)]
    show(rows, ("output", "logged", "bundle", "difference ± error", "largest", *logit))
