"""Two models on the same rows: paired differences of AUC from their prediction files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from funnelcast.errors import ComparisonError, InputError, did_you_mean
from funnelcast.evaluation.auc import auc, auc_difference


def compare_files(a: Path, b: Path) -> dict[str, dict[str, Any]]:
    """By output name: the AUCs of both files and the paired difference with its interval.

    Every output is measured over its own sample space: all rows, or those that reached the step before. Raises
    ComparisonError when the files are not of the same rows, InputError when one holds no predictions or labels.
    """
    first, second = _read(a), _read(b)
    if len(first) != len(second):
        raise ComparisonError(
            f"{a} has {len(first)} rows, {b} has {len(second)}; predict the same rows with both models"
        )
    outputs = [name for name in first.column_names if name.startswith("p_")]
    _require_same(first, second, outputs, b)
    result = {}
    for column in outputs:
        name = column.removeprefix("p_")
        rows, labels = _space(first, name, a)
        scores = [np.asarray(table[column].to_numpy())[rows] for table in (first, second)]
        difference = auc_difference(labels, scores[0], scores[1])
        figures = {"a": auc(labels, scores[0]), "b": auc(labels, scores[1]), **difference._asdict()}
        result[name] = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in figures.items()}
    return result


def _read(path: Path) -> pa.Table:
    if path.suffix != ".parquet" or not path.is_file():
        raise InputError(f"{path} is no Parquet file; write it with: funnelcast predict BUNDLE ROWS --out FILE.parquet")
    table = pq.read_table(path)
    if not any(name.startswith("p_") for name in table.column_names):
        raise InputError(f"{path} has no predicted column p_…; write it with: funnelcast predict")
    return table


def _require_same(first: pa.Table, second: pa.Table, outputs: list[str], b: Path) -> None:
    for column in first.column_names:
        if column not in second.column_names:
            raise ComparisonError(f"{b} lacks {column!r}; {did_you_mean(column, second.column_names)}")
        if column not in outputs and not first[column].combine_chunks().equals(second[column].combine_chunks()):
            raise ComparisonError(
                f"{column!r} differs between the files, so they are not of the same rows in one order"
            )


def _space(table: pa.Table, output: str, path: Path) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """The rows (N,) that an output is measured over, and their labels."""
    step, _, given = output.partition("_given_")
    for name in (step, given) if given else (step,):
        if name not in table.column_names:
            raise InputError(f"{path} has no label column {name!r}; predict rows that have their labels")
    labels = table[step].to_numpy()
    rows = ~np.isnan(labels.astype(np.float64))
    if given:
        rows &= table[given].to_numpy() == 1
    return rows, labels[rows].astype(np.uint8)
