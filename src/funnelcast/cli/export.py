"""`funnelcast export`: a bundle as ONNX models."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from funnelcast.cli.console import AsJson, Replace, out, show_json


class Format(StrEnum):
    """What a bundle can be exported to."""

    onnx = "onnx"


def export(
    bundle: Annotated[Path, typer.Argument(help="A trained bundle.")],
    folder: Annotated[Path, typer.Option("--out", help="Folder of the exported models.")],
    to: Annotated[Format, typer.Option(help="Their format.")] = Format.onnx,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Write a bundle as ONNX models, for programs without funnelcast.

    Example: [bold]funnelcast export run/bundle --to onnx --out exported[/]

    Every model is compared with `predict` in ONNX Runtime before the folder is written. This needs the
    extra onnx: pip install 'funnelcast[[onnx]'
    """
    from funnelcast.exporting.export import export as write

    made = write(bundle, folder, replace=replace)
    if as_json:
        show_json(made)
        return
    for name, difference in made["differences"].items():
        out.print(f"{name}: as predict, log-probabilities to {difference:.1e}")
    for name, reason in made["left_out"].items():
        out.print(f"{name} was left out: {reason}")
    out.print(f"Wrote {', '.join(made['files'])} to {folder}")
