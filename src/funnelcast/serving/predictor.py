"""Predicting raw rows: what a user, the command line and a server call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from funnelcast.errors import InputError
from funnelcast.evaluation.funnel import conditional
from funnelcast.evaluation.score import score
from funnelcast.schema.funnel import Funnel
from funnelcast.serving.bundle import Bundle


class Predictor:
    """A loaded bundle. It holds no state that a call changes."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    @property
    def funnel(self) -> Funnel:
        return self.bundle.encoder.schema.funnel

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the predicted columns: `p_click`, `p_conversion`, `p_conversion_given_click`, …"""
        return tuple(output.column for output in self.funnel.outputs)

    def predict(self, rows: Any) -> Any:
        """Probabilities in [0, 1] of every output, one column each, for raw rows.

        An Arrow table gives an Arrow table, a DataFrame a DataFrame with the same index, a dict of columns a dict.
        Unknown ids and missing values are allowed. Raises InputError for a missing column or a wrong type.
        """
        table = _as_arrow(rows)
        columns = self.predict_arrow(table)
        if hasattr(rows, "iloc"):
            return type(rows)(columns, index=rows.index)
        return columns if isinstance(rows, dict) else pa.table(columns)

    def predict_arrow(self, table: pa.Table) -> dict[str, NDArray[np.float64]]:
        """Probability columns (N,) by name. Raises InputError for a missing or doubled column, or a wrong type."""
        table = _decoded(table)
        batches = table.combine_chunks().to_batches() or [_empty(table)]
        encoded = self.bundle.encoder.encode(batches[0])
        log_p, _ = score(self.bundle.model, encoded, self.bundle.keep_negatives)
        return probabilities(self.funnel, log_p)


def probabilities(funnel: Funnel, log_p: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """Columns (N,) of every output from the log-probabilities (N, T) of having reached each step."""
    columns = {}
    for output in funnel.outputs:
        own = log_p[:, output.step].astype(np.float64)
        if output.given is not None:
            own, _, _ = conditional(own, log_p[:, output.given])
        columns[output.column] = np.exp(own)
    return columns


def bundle_of(source: Bundle | Predictor | Path | str) -> Bundle:
    """The bundle itself, that of a predictor, or the one in a folder. Raises BundleError."""
    if isinstance(source, Predictor):
        return source.bundle
    return source if isinstance(source, Bundle) else Bundle.load(source)


def load(folder: Path | str) -> Predictor:
    """The model of a bundle, ready to predict. Raises BundleError."""
    return Predictor(Bundle.load(folder))


def _as_arrow(rows: Any) -> pa.Table:
    if isinstance(rows, pa.RecordBatch):
        return pa.Table.from_batches([rows])
    if isinstance(rows, pa.Table):
        return rows
    try:
        if isinstance(rows, dict):
            _require_lists(rows)
            return pa.table(rows)
        if hasattr(rows, "iloc") and hasattr(rows, "columns"):
            return pa.Table.from_pandas(rows, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise InputError(f"the rows cannot be read as columns of one type each: {error}") from None
    one = ", as frame.iloc[[0]] for one row" if hasattr(rows, "iloc") else ""
    raise InputError(
        f"cannot predict a {type(rows).__name__}; give a DataFrame{one}, an Arrow table or a dict of columns"
    )


def _require_lists(rows: dict[str, Any]) -> None:
    for name, values in rows.items():
        if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
            raise InputError(f"column {name!r} is {values!r}, not a list of values; for one row, write [{values!r}]")


def _decoded(table: pa.Table) -> pa.Table:
    """With plain values in place of dictionaries, as of pandas' categories. Raises InputError for a doubled column."""
    for i, field in enumerate(table.schema):
        if table.column_names.count(field.name) > 1:
            raise InputError(f"the rows have two columns {field.name!r}; rename one")
        if pa.types.is_dictionary(field.type):
            table = table.set_column(i, field.name, table.column(i).cast(field.type.value_type))
    return table


def _empty(table: pa.Table) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in table.schema], schema=table.schema)
