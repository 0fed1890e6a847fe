"""`funnelcast compare`: two prediction files of the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from funnelcast.cli.console import AsJson, number, out, show, show_json


def compare(
    a: Annotated[Path, typer.Argument(help="Predictions by `funnelcast predict --out A.parquet`, with labels.")],
    b: Annotated[Path, typer.Argument(help="Predictions of the same rows by another model.")],
    as_json: AsJson = False,
) -> None:
    """The difference in AUC, A - B, with a 95 % interval paired on the rows (DeLong)."""
    from funnelcast.experiments.compare import compare as measure

    result = measure(a, b)
    if as_json:
        show_json(result)
        return
    rows = [(name, number(d["a"]), number(d["b"]), _difference(d)) for name, d in result.items()]
    show(rows, ("output", "AUC of A", "AUC of B", "A - B (95 %)"))
    for name, d in result.items():
        if d["note"]:
            out.print(f"  {name}: {d['note']}")


def _difference(found: dict[str, Any]) -> str:
    if found["low"] is None:
        return number(found["estimate"])
    return f"{found['estimate']:+.4f} ({found['low']:+.4f} – {found['high']:+.4f})"
