"""Two models on the same rows: paired differences of AUC from their prediction files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from funnelcast.data.encoder import as_float
from funnelcast.errors import ComparisonError, InputError
from funnelcast.evaluation.auc import auc, auc_difference
from funnelcast.experiments.prediction_schema import outputs_of, weight_of


def compare(a: Path | str, b: Path | str) -> dict[str, dict[str, Any]]:
    """By output name: the AUCs of both files and the paired difference with its interval.

    Every output is measured over its own sample space: all rows, or those that reached the step before; rows count by
    their weight where the files have one. NaN is None. Raises ComparisonError when the files are not of the same rows,
    InputError when one holds no predictions or labels.
    """
    a, b = Path(a), Path(b)
    first, second = _read(a), _read(b)
    if len(first) != len(second):
        raise ComparisonError(
            f"{a} has {len(first)} rows, {b} has {len(second)}; predict the same rows with both models"
        )
    if not len(first):
        raise ComparisonError(f"{a} and {b} have no rows to compare; predict some with both models")
    outputs = outputs_of(first)
    for column in second.column_names:
        _require_column(first, column, a)
    _require_same(first, second, outputs, b)
    weights = _weights(first, weight_of(first) or weight_of(second), a)
    result = {}
    for column in outputs:
        name = column.removeprefix("p_")
        rows, labels = _space(first, name, a)
        scores = [_probabilities(table, column, path)[rows] for table, path in ((first, a), (second, b))]
        own = weights[rows]
        difference = auc_difference(labels, scores[0], scores[1], own)
        figures = {"a": auc(labels, scores[0], own), "b": auc(labels, scores[1], own), **difference._asdict()}
        result[name] = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in figures.items()}
    return result


def _read(path: Path) -> pa.Table:
    if path.suffix != ".parquet" or not path.is_file():
        raise InputError(f"{path} is no Parquet file; write it with: funnelcast predict BUNDLE ROWS --out FILE.parquet")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read ({error}); predict again") from None
    try:
        outputs, weight = outputs_of(table), weight_of(table)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if not outputs:
        raise InputError(f"{path} has no predicted column p_…; write it with: funnelcast predict")
    if weight is not None and weight not in table.column_names:
        raise InputError(f"{path} lacks {weight!r}, the weight of its rows; predict again")
    return table


def _require_same(first: pa.Table, second: pa.Table, outputs: list[str], b: Path) -> None:
    for column in first.column_names:
        _require_column(second, column, b)
        if column not in outputs and not _same(first[column].combine_chunks(), second[column].combine_chunks()):
            raise ComparisonError(
                f"{column!r} differs between the files, so they are not of the same rows in one order"
            )


def _require_column(table: pa.Table, column: str, path: Path) -> None:
    if column not in table.column_names:
        raise ComparisonError(f"{path} lacks {column!r}, which the other has; predict the same rows with both models")


def _same(a: pa.Array, b: pa.Array) -> bool:
    """Whether the values are equal: raw rows may hold other types of numbers than tables, and NaN equals NaN."""
    if a.type != b.type and all(_is_number(each.type) for each in (a, b)):
        a, b = (each.cast(pa.float64(), safe=False) for each in (a, b))
    if a.type == b.type and pa.types.is_floating(a.type):
        a, b = (pc.if_else(pc.is_nan(each), None, each) for each in (a, b))
    return bool(a.equals(b))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _probabilities(table: pa.Table, column: str, path: Path) -> NDArray[np.float64]:
    values = _numbers(table, column, path)
    bad = int((~((values >= 0) & (values <= 1))).sum())
    if bad:
        raise InputError(f"{path}: {column!r} has {bad} values that are no probability; predict again")
    return values


def _weights(table: pa.Table, column: str | None, path: Path) -> NDArray[np.float64]:
    """(N,), 1 each where the rows have no weight."""
    if column is None:
        return np.ones(len(table))
    values = _numbers(table, column, path)
    bad = int((~((values >= 0) & np.isfinite(values))).sum())
    if bad:
        raise InputError(f"{path}: the weight {column!r} is missing, infinite or below 0 in {bad} rows; mend the rows")
    return values


def _space(table: pa.Table, output: str, path: Path) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """The rows (N,) that an output is measured over, and their labels."""
    step, _, given = output.partition("_given_")
    labels = _labels(table, step, path)
    rows = ~np.isnan(labels)
    if given:
        rows &= _labels(table, given, path) == 1
    return rows, labels[rows].astype(np.uint8)


def _labels(table: pa.Table, step: str, path: Path) -> NDArray[np.float64]:
    """0, 1, or NaN where it was not observed, (N,)."""
    if step not in table.column_names:
        raise InputError(f"{path} has no label column {step!r}; predict rows that have their labels")
    labels = _numbers(table, step, path)
    if not np.isin(labels[~np.isnan(labels)], (0, 1)).all():
        raise InputError(f"{path}: the label {step!r} holds other values than 0, 1 and null; mend the rows")
    return labels


def _numbers(table: pa.Table, column: str, path: Path) -> NDArray[np.float64]:
    try:
        return as_float(table[column].combine_chunks(), column)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
