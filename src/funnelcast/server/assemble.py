"""Raw rows from the tensors of a request."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from funnelcast.data.arrow import numbers_of
from funnelcast.data.texts import is_text
from funnelcast.errors import InputError
from funnelcast.server.signature import LENGTHS, VALID, Input, Signature
from funnelcast.server.tensors import Tensor


class Rows(NamedTuple):
    """Raw rows."""

    own: pa.RecordBatch
    """(N,) of each column that differs from row to row."""
    shared: pa.RecordBatch | None = None
    """(1,) of the columns that hold for all rows."""


def rows_of(tensors: list[Tensor], signature: Signature) -> Rows:
    """The rows of a request: of N, an input of one row holds for all. Raises InputError."""
    by_name = {tensor.name: tensor for tensor in tensors}
    if len(by_name) < len(tensors):
        names = [tensor.name for tensor in tensors]
        doubled = next(name for name in names if names.count(name) > 1)
        raise InputError(f"the input {doubled!r} stands twice in the request; give it once")
    signature.require_known(by_name)
    columns = {name: _column(each, by_name) for name, each in signature.inputs.items() if name in by_name}
    apart = [name for name in by_name if name not in columns and _owner(name) not in columns]
    if apart:
        raise InputError(f"the request has {apart[0]!r} but no {_owner(apart[0])!r}; give both")
    return _parted(columns)


def _owner(name: str) -> str:
    return name.removesuffix(LENGTHS).removesuffix(VALID)


def _parted(columns: dict[str, pa.Array]) -> Rows:
    if not columns:
        raise InputError("the request has no inputs; give those of the model's metadata")
    sizes = {name: len(values) for name, values in columns.items()}
    rows = max(sizes.values()) if 0 not in sizes.values() else 0
    for name, size in sizes.items():
        if size not in (rows, 1):
            other = next(other for other, n in sizes.items() if n == rows)
            raise InputError(
                f"input {name!r} has {size} rows and {other!r} has {rows}; give as many, or one that holds for all"
            )
    shared = {name: values for name, values in columns.items() if len(values) != rows}
    own = {name: values for name, values in columns.items() if name not in shared}
    return Rows(_batch(own), _batch(shared) if shared else None)


def _batch(columns: dict[str, pa.Array]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))


def _column(known: Input, by_name: dict[str, Tensor]) -> pa.Array:
    tensor = by_name[known.name]
    lengths, valid = by_name.get(known.name + LENGTHS), by_name.get(known.name + VALID)
    if not known.is_list or (is_text(tensor.values.type) and known.separator and lengths is None):
        if lengths is not None:
            raise InputError(f"input {known.name!r} is one value per row, so {lengths.name!r} has no use; leave it out")
        _require_flat(tensor)
        values = tensor.values
    else:
        values = _lists(known, tensor, lengths)
    return values if valid is None else _with_missing(values, valid)


def _require_flat(tensor: Tensor) -> None:
    if len(tensor.values) != tensor.shape[0]:
        raise InputError(f"input {tensor.name!r} has the shape {list(tensor.shape)}, but one value per row is needed")


def _lists(known: Input, tensor: Tensor, lengths: Tensor | None) -> pa.Array:
    """Of values one list after the other, or of lists of equal length."""
    if lengths is None:
        if len(tensor.shape) < 2:
            text = f", or texts parted by {known.separator!r}" if known.separator else ""
            raise InputError(
                f"input {known.name!r} holds a list per row; give {known.name + LENGTHS!r} with the length of each, a "
                f"shape [rows, length]{text}"
            )
        counts = np.full(tensor.shape[0], prod(tensor.shape[1:]), np.int64)
    else:
        if not pa.types.is_integer(lengths.values.type) or lengths.values.null_count:
            raise InputError(f"input {lengths.name!r} holds lengths; give whole numbers")
        counts = numbers_of(lengths.values).astype(np.int64)
        if counts.min(initial=0) < 0 or counts.sum() != len(tensor.values):
            raise InputError(
                f"the lengths of {known.name!r} add up to {counts.sum()}, and it has {len(tensor.values)} values; let "
                "both agree"
            )
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int64())
    return pa.LargeListArray.from_arrays(offsets, tensor.values)


def _with_missing(values: pa.Array, valid: Tensor) -> pa.Array:
    if not pa.types.is_boolean(valid.values.type) or len(valid.values) != len(values):
        raise InputError(f"input {valid.name!r} says which of {len(values)} rows have a value; give as many BOOL")
    return pc.if_else(valid.values, values, None)
