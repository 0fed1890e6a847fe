"""`funnelcast predict`: probabilities for the rows of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from funnelcast.cli.console import AsJson, Replace, out, progress_bars, show_json


def predict(
    bundle: Annotated[Path, typer.Argument(help="A trained bundle.")],
    rows: Annotated[Path, typer.Argument(help="Raw rows (.parquet, .csv, .csv.gz), or a prepared table.")],
    to: Annotated[Path, typer.Option("--out", help="File of the predictions: .parquet or .csv.")],
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

    with progress_bars(as_json) as progress:
        summary = predict_file(
            bundle,
            rows,
            to,
            part=part,
            deltas=deltas,
            replace=replace,
            precision=cast(Any, precision),
            progress=progress,
        )
    if as_json:
        show_json(summary)
    else:
        out.print(f"Wrote {summary['rows']:,} rows to {to}: {', '.join(summary['columns'])}")
        for column, count in summary["unknown_texts"].items():
            out.print(f"  {column}: {count:,} texts where the model knows integers, read as unknown")
