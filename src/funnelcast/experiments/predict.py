"""Predicting a file or a part of a table into a file."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from funnelcast.data.columns import UNOBSERVED, Columns
from funnelcast.data.files import check_free, new_file
from funnelcast.data.log.rows import BATCH_ROWS, read_rows
from funnelcast.data.progress import Progress, silent
from funnelcast.data.table import Table
from funnelcast.errors import InputError
from funnelcast.evaluation.score import score
from funnelcast.experiments.evaluate import require_same_ids
from funnelcast.schema.funnel import Funnel
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.predictor import Predictor, probabilities


def predict_file(
    bundle: Path, rows: Path, out: Path, *, part: str = "test", replace: bool = False, progress: Progress = silent
) -> dict[str, Any]:
    """Write predictions of raw rows, or of a part of a prepared table, to `out`; the file is whole or not there.

    Returns the number of rows and the columns. Raises FunnelcastError.
    """
    if out.suffix not in (".parquet", ".csv"):
        raise InputError(f"--out {out} must end in .parquet or .csv")
    check_free(out, replace=replace)
    predictor = Predictor(Bundle.load(bundle))
    is_table = (rows / "manifest.json").is_file()
    pieces = _of_table(predictor, Table.open(rows), part) if is_table else _of_file(predictor, rows, out)
    count, names = 0, []
    with new_file(out) as partial, closing(pieces):
        writer = None
        for piece in pieces:
            writer = writer or _writer(partial, out.suffix, piece.schema)
            writer.write_table(piece)
            count, names = count + len(piece), piece.column_names
            progress("predict", count, count, "rows")
        if writer is None:
            raise InputError(f"{rows} holds no rows")
        writer.close()
    return {"rows": count, "columns": names}


def first_rows(bundle: Path, table: Path, rows: int) -> pa.Table:
    """Predictions of the first rows of a table's test part, beside what the table keeps."""
    predictor = Predictor(Bundle.load(bundle))
    return next(_of_table(predictor, Table.open(table), "test")).slice(0, rows)


def _writer(path: Path, kind: str, schema: pa.Schema) -> Any:
    for field in schema if kind == ".csv" else ():
        if pa.types.is_nested(field.type) or pa.types.is_binary(field.type):
            raise InputError(f"{field.name!r} holds {field.type}, which no CSV can; give --out FILE.parquet")
    return pq.ParquetWriter(path, schema) if kind == ".parquet" else pa.csv.CSVWriter(path, schema)


def _of_file(predictor: Predictor, rows: Path, out: Path) -> Generator[pa.Table]:
    schema = predictor.bundle.encoder.schema
    steps = dict(zip(schema.funnel.names, schema.funnel.label_columns, strict=True))
    for batch in read_rows(rows, predictor.bundle.encoder, out):
        table = pa.Table.from_batches([batch])
        kept = {column: table[column] for column in schema.keep if column in table.column_names}
        labels = {step: table[column] for step, column in steps.items() if column in table.column_names}
        try:
            yield pa.table(kept | labels | predictor.predict_arrow(table))
        except InputError as error:
            raise InputError(f"{rows}: {error}") from None


def _of_table(predictor: Predictor, table: Table, part: str) -> Generator[pa.Table]:
    require_same_ids(predictor.bundle.encoder, table)
    columns, side, funnel = table.part(part), table.side(part), predictor.funnel
    log_p, _ = score(predictor.bundle.model, columns, predictor.bundle.keep_negatives)
    for start in range(0, len(columns), BATCH_ROWS):
        piece = slice(start, start + BATCH_ROWS)
        copied = side.slice(start, BATCH_ROWS)
        kept = dict(zip(copied.column_names, copied.columns, strict=True))
        yield pa.table(kept | _labels(funnel, columns, piece) | probabilities(funnel, log_p[piece]))


def _labels(funnel: Funnel, columns: Columns, piece: slice) -> dict[str, pa.Array]:
    """Named by step, as in files of raw rows, so that `compare` finds them whatever the log calls them."""
    assert columns.labels is not None
    labels = np.asarray(columns.labels[piece])
    return {name: pa.array(labels[:, t], mask=labels[:, t] == UNOBSERVED) for t, name in enumerate(funnel.names)}
