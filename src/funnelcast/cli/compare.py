"""`funnelcast compare`: two prediction files of the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from funnelcast.cli.console import AsJson, number, show, show_json


def compare(
    a: Annotated[Path, typer.Argument(help="Predictions by `funnelcast predict --out A.parquet`, with labels.")],
    b: Annotated[Path, typer.Argument(help="Predictions of the same rows by another model.")],
    as_json: AsJson = False,
) -> None:
    """The difference in AUC, A - B, with a 95 % interval paired on the rows (DeLong)."""
    from funnelcast.experiments.compare import compare_files

    result = compare_files(a, b)
    if as_json:
        show_json(result)
        return
    rows = [
        (name, number(d["a"]), number(d["b"]), f"{d['estimate']:+.4f} ({d['low']:+.4f} – {d['high']:+.4f}) {d['note']}")
        if d["low"] is not None
        else (name, number(d["a"]), number(d["b"]), f"{number(d['estimate'])} {d['note']}")
        for name, d in result.items()
    ]
    show(rows, ("output", "AUC of A", "AUC of B", "A - B (95 %)"))
