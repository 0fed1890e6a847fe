"""The columns of a request log: what a request had and what it was answered, a row of each of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from funnelcast.data.arrow import array_of
from funnelcast.data.texts import is_text
from funnelcast.errors import FunnelcastError
from funnelcast.server.signature import Input, Signature
from funnelcast.serving.frames import with_shared
from funnelcast.serving.keys import Keys
from funnelcast.serving.predictor import Predictor

TIME: Final = "log_time"
REQUEST: Final = "log_request"
ROWS: Final = "log_rows"
ID: Final = "log_id"
VERSION: Final = "log_version"
PRECISION: Final = "log_precision"
DELTA: Final = "log_delta"
DELTA_VERSION: Final = "log_delta_version"
KINDS: Final = {
    TIME: pa.timestamp("us", "UTC"),
    REQUEST: pa.string(),
    ROWS: pa.int32(),
    **{name: pa.string() for name in (ID, VERSION, PRECISION, DELTA, DELTA_VERSION)},
}
"""Types of the columns before the inputs: when it was scored; a name that no other request has; the number of its rows;
the client's id; the bundle's fingerprint; the precision; the key of the row's delta, "" for a delta of all rows, and
that delta's fingerprint, both null where it had none."""
OF_ALL: Final = ""
_VALUES: Final = {"INT64": pa.int64(), "FP64": pa.float64(), "BYTES": pa.string()}
_LISTS: Final = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


class Answered(NamedTuple):
    """A request with its answer."""

    own: pa.RecordBatch
    """(N,) of each column that differs from row to row."""
    shared: pa.RecordBatch | None
    """(1,) of the columns that hold for all rows."""
    p: Mapping[str, NDArray[np.float64]]
    """(N,) by output."""
    id: str | None
    """As the client gave it."""


class LoggedColumns:
    """What is logged of the requests to a model."""

    def __init__(self, signature: Signature, predictor: Predictor) -> None:
        """Raises FunnelcastError where an input has the name of another column of the log."""
        self._inputs, self._deltas = signature.inputs, RowDeltas(predictor)
        self._fixed = {VERSION: predictor.bundle.fingerprint, PRECISION: predictor.precision}
        taken = sorted(signature.inputs.keys() & {*KINDS, *signature.outputs})
        if taken:
            raise FunnelcastError(
                f"the log of rows has a column {taken[0]!r} of its own, and the model reads one of that name; serve it "
                "without --log-rows, or name the column otherwise and train again"
            )

    def batch(self, answered: Answered, name: str, seconds: float) -> pa.RecordBatch:
        """The rows (N,) of a request of that name, scored at `seconds` since 1970."""
        own, shared = answered.own, answered.shared
        rows = own if shared is None else with_shared(own, shared)
        names = [column for column in self._inputs if column in rows.schema.names]
        inputs = {column: as_logged(rows.column(column), self._inputs[column]) for column in names}
        scored = datetime.fromtimestamp(seconds, UTC)
        said = {TIME: scored, REQUEST: name, ROWS: len(own), ID: answered.id, **self._fixed}
        fixed = {each: pa.repeat(pa.scalar(said.get(each), kind), len(own)) for each, kind in KINDS.items()}
        columns = {
            **fixed,
            **self._deltas.of(rows),
            **inputs,
            **{output: array_of(p) for output, p in answered.p.items()},
        }
        return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))


class RowDeltas:
    """Which delta of a predictor each row has."""

    def __init__(self, predictor: Predictor) -> None:
        deltas = predictor.deltas
        self._keys = Keys([delta.key for delta in deltas])
        self._values = pa.array([*(self._keys.values or [OF_ALL] * len(deltas)), None], pa.string())
        self._versions = pa.array([*(delta.fingerprint for delta in deltas), None], pa.string())

    def of(self, rows: pa.RecordBatch) -> dict[str, pa.Array]:
        """(N,) texts: key and fingerprint of each row's delta, null where it has none. Raises InputError where the
        column of the key is missing."""
        found = self._keys.of(rows).astype(np.int64)
        index = array_of(np.where(found < 0, len(self._values) - 1, found))
        return {DELTA: self._values.take(index), DELTA_VERSION: self._versions.take(index)}


def as_logged(values: pa.Array, known: Input) -> pa.Array:
    """As the type that its input has in the protocol, where every value stays what it is; else as the client gave it.

    So the columns of most requests have one type, whether a client has written 7, 7.0 or null for all rows.
    """
    wanted = _type_of(values.type, known, known.is_list)
    try:
        return values if values.type == wanted else values.cast(wanted)
    except pa.ArrowException:
        return values


def _type_of(kind: pa.DataType, known: Input, is_list: bool) -> pa.DataType:
    own = _VALUES[known.datatype]
    if is_list and pa.types.is_null(kind):
        return pa.string() if known.separator else pa.large_list(own)
    if is_list and any(fits(kind) for fits in _LISTS):
        return pa.large_list(_type_of(kind.value_type, known, False))
    if pa.types.is_null(kind) or (is_text(kind) and own == pa.string()):
        return own
    is_number = own == pa.float64() and (pa.types.is_floating(kind) or pa.types.is_boolean(kind))
    return own if is_number or (pa.types.is_integer(kind) and own != pa.string()) else kind
