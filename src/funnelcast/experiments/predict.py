"""Predicting raw rows or a part of a table into files."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from funnelcast.data.arrow import array_of
from funnelcast.data.columns import UNOBSERVED
from funnelcast.data.encoder import as_float
from funnelcast.data.labels import encode_labels, mend
from funnelcast.data.log.stdin import NAME as STDIN_NAME
from funnelcast.data.log.stdin import STDIN
from funnelcast.data.log.typed_files import BATCH_ROWS
from funnelcast.data.progress import Progress, silent
from funnelcast.data.table import Table
from funnelcast.errors import InputError
from funnelcast.evaluation.score import score
from funnelcast.experiments.evaluate import require_same_ids
from funnelcast.experiments.file_rows import rows_with
from funnelcast.experiments.prediction_files import Target, prediction_writer, target_of
from funnelcast.experiments.prediction_schema import with_note
from funnelcast.ops import Precision
from funnelcast.schema.funnel import Funnel
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.predictor import Predictor, bundle_of, probabilities


def predict_file(
    bundle: Bundle | Predictor | Path | str,
    rows: Path | str,
    out: Path | str,
    *,
    file_format: str | None = None,
    part: str = "test",
    deltas: Path | str | None = None,
    replace: bool = False,
    precision: Precision = "float32",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write predictions of raw rows, or of a `part` (train, dev, test) of a prepared table, to `out`, whole or not
    there. Raw rows are a Parquet, CSV or Arrow file, a folder of such files, or `-` for standard input; they are read
    and written in batches. `out` is a file, a folder of files, or `-` for standard output, as its name and
    `file_format` (csv, parquet, arrow) say. `deltas`: a file or a folder of them, for raw rows; `precision`: of a
    bundle's products.

    Kept columns, the weight, and labels by the names of their steps stand beside them, where the rows have them.
    Returns the number of rows, the columns, and by column of integer ids the texts in it, which are read as unknown.
    Raises FunnelcastError.
    """
    target, rows = target_of(out, file_format), Path(rows)
    target.check(replace=replace)
    is_table = (rows / "manifest.json").is_file()
    if not is_table:
        _require_apart(rows, target)
    predictor = bundle if isinstance(bundle, Predictor) else Predictor(bundle_of(bundle), precision=precision)
    predictor = predictor if deltas is None else predictor.with_deltas(deltas)
    texts: dict[str, int] = {}
    with ExitStack() as stack:
        writer = stack.enter_context(prediction_writer(target, predictor.bundle.fingerprint, replace=replace))
        aside = Path(stack.enter_context(TemporaryDirectory()), "rows") if target.is_stdout else target.path
        source = _of_table(predictor, Table.open(rows), part, progress) if is_table else None
        chunks = stack.enter_context(closing(source or _of_file(predictor, rows, aside, texts)))
        names = []
        for chunk in chunks:
            writer.write(chunk)
            names = chunk.column_names
            progress("write", writer.rows, 0, "rows")
    progress("write", writer.rows, writer.rows, "rows")
    return {"rows": writer.rows, "columns": names, "unknown_texts": texts}


def _require_apart(rows: Path, target: Target) -> None:
    one, other = rows.resolve(), target.path.resolve()
    if rows != STDIN and not target.is_stdout and (one == other or one in other.parents or other in one.parents):
        raise InputError(f"--out {target.path} and the rows {rows} are or hold each other; write to another place")


def first_rows(bundle: Path | str, table: Path | str, rows: int) -> pa.Table:
    """Predictions of the first rows of a table's test part, beside what the table keeps."""
    predictor = Predictor(Bundle.load(bundle))
    return next(_of_table(predictor, Table.open(table), "test", silent)).slice(0, rows)


def _of_file(predictor: Predictor, rows: Path, aside: Path, texts: dict[str, int]) -> Generator[pa.Table]:
    schema = predictor.bundle.encoder.schema
    for batch in rows_with(rows, predictor.bundle.encoder, aside, predictor.key, texts):
        table = pa.Table.from_batches([batch])
        kept = {column: table[column] for column in schema.keep if column in table.column_names}
        try:
            weight, labels = _raw_weight(table, schema.weight), _raw_labels(batch, schema.funnel)
            yield _chunk(predictor, kept, weight, labels, predictor.predict_arrow(table))
        except InputError as error:
            raise InputError(f"{STDIN_NAME if rows == STDIN else rows}: {error}") from None


def _of_table(predictor: Predictor, table: Table, part: str, progress: Progress) -> Generator[pa.Table]:
    if predictor.deltas:
        raise InputError(f"{table.folder} has only ids that the bundle knows; give the raw rows, as deltas know others")
    require_same_ids(predictor.bundle.encoder, table)
    columns, side, funnel = table.part(part), table.side(part), predictor.funnel
    assert columns.labels is not None
    rows = len(columns)
    log_p, _ = score(
        predictor.bundle.model,
        columns,
        predictor.bundle.keep_negatives,
        lambda done: progress("predict", done, rows, "rows"),
        predictor.precision,
        calibration=predictor.bundle.calibration,
    )
    for start in range(0, rows, BATCH_ROWS):
        chunk = slice(start, start + BATCH_ROWS)
        copied = side.slice(start, BATCH_ROWS)
        kept = dict(zip(copied.column_names, copied.columns, strict=True))
        weight = None if columns.weight is None else np.asarray(columns.weight[chunk])
        labels = _by_step(np.asarray(columns.labels[chunk]), funnel)
        yield _chunk(predictor, kept, weight, labels, probabilities(funnel, log_p[chunk]))


def _chunk(
    predictor: Predictor,
    kept: dict[str, Any],
    weight: NDArray[np.float32] | None,
    labels: dict[str, Any],
    predicted: dict[str, NDArray[np.float64]],
) -> pa.Table:
    column = predictor.bundle.encoder.schema.weight
    weights = {} if weight is None or column is None else {column: array_of(weight)}
    found = {name: array_of(p) for name, p in predicted.items()}
    return with_note(pa.table(kept | weights | labels | found), list(predicted), column if weights else None)


def _raw_weight(rows: pa.Table, column: str | None) -> NDArray[np.float32] | None:
    """As a table stores it, so that both compare as equal; NaN for null, infinite where a table would refuse it."""
    if column is None or column not in rows.column_names:
        return None
    with np.errstate(over="ignore"):
        return as_float(rows[column].combine_chunks(), column).astype(np.float32)


def _raw_labels(rows: pa.RecordBatch, funnel: Funnel) -> dict[str, Any]:
    """Those that the rows have; where all are there and each is 0, 1 or null, mended as in a table."""
    columns = dict(zip(funnel.names, funnel.label_columns, strict=True))
    own = {step: rows.column(column) for step, column in columns.items() if column in rows.schema.names}
    if len(own) < len(columns):
        return own
    labels, bad = encode_labels(rows, funnel)
    mending = funnel if funnel.on_broken == "imply" else funnel.model_copy(update={"on_broken": "drop"})
    return own if bad.any() else _by_step(mend(labels, mending)[0], funnel)


def _by_step(labels: NDArray[np.uint8], funnel: Funnel) -> dict[str, Any]:
    """Named by step, so that `compare` finds them whatever the log calls them."""
    return {name: array_of(labels[:, t], labels[:, t] == UNOBSERVED) for t, name in enumerate(funnel.names)}
