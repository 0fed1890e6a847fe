"""Predicting raw rows: what a user, the command line and a server call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from funnelcast.data.arrow import array_of
from funnelcast.data.columns import Columns
from funnelcast.errors import InputError
from funnelcast.evaluation.funnel import conditional
from funnelcast.ops import Precision
from funnelcast.runtime.garbage import paused_gc
from funnelcast.schema.funnel import Funnel
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.delta import Delta, read_deltas
from funnelcast.serving.deltas import Deltas
from funnelcast.serving.frames import as_arrow, one_batch, one_row, with_shared

if TYPE_CHECKING:
    from funnelcast.training.adapting import Adapting


class Encoded(NamedTuple):
    """Raw rows with what the model reads of them."""

    rows: pa.RecordBatch
    columns: Columns


class Predictor:
    """A loaded bundle, with deltas over it if there are some. It holds no state that a call changes."""

    def __init__(self, bundle: Bundle, deltas: Iterable[Delta] = (), precision: Precision = "float32") -> None:
        """`precision`: of the operands of matrix products. Raises DeltaError for deltas of another bundle, or that
        exclude each other, FunnelcastError for a precision that this processor has not."""
        self.bundle, self.deltas, self.precision = bundle, tuple(deltas), precision
        self._deltas = Deltas(bundle, self.deltas, precision)

    @property
    def funnel(self) -> Funnel:
        return self.bundle.encoder.schema.funnel

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the predicted columns: `p_click`, `p_conversion`, `p_conversion_given_click` and so on."""
        return tuple(output.column for output in self.funnel.outputs)

    @property
    def key(self) -> str | None:
        """The column by whose value a row's delta is chosen."""
        return self._deltas.keys.column

    def predict(self, rows: Any, shared: Mapping[str, Any] | None = None) -> Any:
        """Probabilities in [0, 1] of every output, one column each, for raw rows.

        An Arrow table gives an Arrow table, a DataFrame a DataFrame with the same index, a dict of columns a dict.
        `shared`: a value for each of some columns that the rows lack, as of the user whose candidates they are; it is
        encoded once. Unknown ids and missing values are allowed. Raises InputError for a missing column or a wrong
        type.
        """
        columns = self._of(as_arrow(rows), shared)
        if hasattr(rows, "iloc"):
            return type(rows)(columns, index=rows.index)
        return columns if isinstance(rows, dict) else pa.table({name: array_of(p) for name, p in columns.items()})

    def predict_arrow(self, table: pa.Table, shared: Mapping[str, Any] | None = None) -> dict[str, NDArray[np.float64]]:
        """Probability columns (N,) by name. Raises InputError for a missing or doubled column, or a wrong type."""
        return self._of(as_arrow(table), shared)

    def _of(self, table: pa.Table, shared: Mapping[str, Any] | None) -> dict[str, NDArray[np.float64]]:
        rows = one_batch(table)
        return self.score(self.encode(rows, None if shared is None else one_row(shared, rows.schema.names)))

    def encode(self, rows: pa.RecordBatch, shared: pa.RecordBatch | None = None) -> Encoded:
        """Raw rows (N,), with the columns of one row that hold for all. Raises InputError."""
        if shared is not None and self.deltas:  # which are chosen by columns, and know ids that the bundle does not
            rows, shared = with_shared(rows, shared), None
        return Encoded(rows, self.bundle.encoder.encode(rows, shared))

    def score(self, encoded: Encoded) -> dict[str, NDArray[np.float64]]:
        """Probability columns (N,) by name. Raises InputError where the column that chooses deltas is missing."""
        return probabilities(self.funnel, self._deltas.score(encoded.rows, encoded.columns))

    def adapt(self, rows: Any, config: Adapting | None = None, key: dict[str, str] | None = None) -> Delta:
        """What adapting the bundle to labelled raw rows changes, as many steps as held-out rows say: an empty delta
        where none helps. `key`: such as {"campaign": "123"}, of the rows that the delta is for; of the given rows those
        are taken. Deltas that the predictor has are left aside.

        Raises InputError for rows that cannot be learned from, FunnelcastError where there is nothing to adapt.
        """
        from funnelcast.serving.adapt import adapt_rows  # and with it training, which predicting does without
        from funnelcast.training.adapting import Adapting

        return adapt_rows(self.bundle, as_arrow(rows), config or Adapting(), dict(key or {}))

    def with_deltas(self, deltas: Delta | Path | str | Iterable[Delta | Path | str]) -> Predictor:
        """The same bundle with these deltas, and no others: one for all rows, or some that have keys, each for the rows
        of its own. Files and folders of deltas may be given too. Raises DeltaError."""
        return Predictor(self.bundle, read_deltas(deltas), self.precision)


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
    """The bundle itself, that of a predictor, or the one in a folder. Raises BundleError, and InputError where a
    predictor has deltas, which would be left out."""
    if isinstance(source, Predictor):
        if source.deltas:
            raise InputError("the predictor has deltas, which are not read here; give its bundle, predictor.bundle")
        return source.bundle
    return source if isinstance(source, Bundle) else Bundle.load(source)


def load(folder: Path | str, precision: Precision = "float32") -> Predictor:
    """The model of a bundle, ready to predict; with "bfloat16" nearly twice as fast, to about two digits, on a
    processor that has it. Raises BundleError, and FunnelcastError where it has not."""
    with paused_gc():
        return Predictor(Bundle.load(folder), precision=precision)
