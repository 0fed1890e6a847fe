"""`funnelcast predict`: probabilities for the rows of a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from funnelcast.cli.console import AsJson, Replace, out, progress_bars, show_json


def predict(
    bundle: Annotated[Path, typer.Argument(help="A trained bundle.")],
    rows: Annotated[
        Path,
        typer.Argument(
            help="Raw rows: a .parquet, .csv, .csv.gz or .arrow file, a folder of such files, - for standard input; or "
            "a prepared table."
        ),
    ],
    to: Annotated[
        str,
        typer.Option(
            "--out",
            metavar="PATH",
            help="Predictions: a .parquet, .csv or .arrow file; a name without ending, or with / at its end, for a "
            "folder of files; - for standard output.",
        ),
    ],
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Of the output: csv, parquet or arrow. By default that of its ending; Parquet for a folder, CSV for "
            "standard output. The rows' format is known by their ending, on standard input by the first bytes.",
        ),
    ] = None,
    deltas: Annotated[Path | None, typer.Option(help="A delta of `funnelcast adapt`, or a folder of them.")] = None,
    part: Annotated[str, typer.Option(help="Of a prepared table: train, dev or test.")] = "test",
    precision: Annotated[
        str,
        typer.Option(help="Of matrix products: float32, or bfloat16, nearly twice as fast where the processor has it."),
    ] = "float32",
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Write one probability column per output: p_click, p_conversion, p_conversion_given_click and so on.

    Columns that the schema keeps, the weight, and labels where the rows have them, are copied beside. With deltas, a
    row is predicted by that of its key, and by the bundle itself where there is none.
    """
    from funnelcast.experiments.predict import predict_file

    with progress_bars(as_json) as progress, _until_nobody_reads(to):
        summary = predict_file(
            bundle,
            rows,
            to,
            file_format=file_format,
            part=part,
            deltas=deltas,
            replace=replace,
            precision=cast(Any, precision),
            progress=progress,
        )
    with redirect_stdout(sys.stderr) if to == "-" else nullcontext():
        if as_json:
            show_json(summary)
            return
        out.print(f"Wrote {summary['rows']:,} rows to {to}: {', '.join(summary['columns'])}")
        for column, count in summary["unknown_texts"].items():
            out.print(f"  {column}: {count:,} texts where the model knows integers, read as unknown")


@contextmanager
def _until_nobody_reads(to: str) -> Iterator[None]:
    """A pipe that is closed at its other end, as by `head`, ends the command without a word."""
    try:
        yield
    except BrokenPipeError:
        if to != "-":
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to flush at the end
        raise typer.Exit(1) from None
