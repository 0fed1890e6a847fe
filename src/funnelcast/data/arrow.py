"""Numbers to Arrow and back, without what loads pandas, as `pa.array` and `to_numpy` do: a fifth of a second."""

from __future__ import annotations

import sys
from functools import cache
from types import NoneType
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def array_of(numbers: NDArray[Any], missing: NDArray[np.bool_] | None = None) -> pa.Array:
    """`numbers` (n,), as they lie in memory; null where they are `missing`."""
    numbers = np.ascontiguousarray(numbers)
    kind, valid = pa.from_numpy_dtype(numbers.dtype), None if missing is None else _bits(~missing)
    return pa.Array.from_buffers(kind, len(numbers), [valid, pa.py_buffer(numbers)])


def _bits(flags: Any) -> pa.Buffer:
    return pa.py_buffer(np.packbits(flags, bitorder="little"))


def numbers_of(array: pa.Array, missing: float | None = None) -> NDArray[Any]:
    """The numbers (n,) of an array, in its memory, not to be written to; `missing` for nulls, if there may be some."""
    assert missing is not None or not array.null_count, "nulls are no numbers"
    dtype, values = _dtype_of(array.type), array.buffers()[1]
    if values is None:
        return np.full(len(array), missing or 0, dtype)
    numbers = np.frombuffer(values, dtype, len(array), array.offset * dtype.itemsize)
    if array.null_count:
        numbers = np.where(is_valid(array), numbers, dtype.type(missing))
    numbers.flags.writeable = False
    return numbers


def is_valid(array: pa.Array) -> NDArray[np.bool_]:
    """(n,) false for nulls, of an array of numbers in which there are some."""
    first, skipped = divmod(array.offset, 8)  # of what may be a slice of much more
    own = np.frombuffer(array.buffers()[0], np.uint8, -(-(skipped + len(array)) // 8), first)
    return np.unpackbits(own, bitorder="little")[skipped : skipped + len(array)].view(np.bool_)


@cache
def _dtype_of(kind: pa.DataType) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
    return dtype


_KINDS: Final = {int: (pa.int64(), np.int64), float: (pa.float64(), np.float64), str: (pa.string(), np.int32)}
"""Of plain values, as Arrow has them, and numpy has them or, of texts, where they begin."""


def column_of(values: list[Any] | NDArray[Any]) -> pa.Array:
    """What `pa.array` makes of `values`, without what loads pandas where these are numbers, or texts, or None among
    them. Raises what `pa.array` does."""
    if not isinstance(values, list):
        is_number = values.dtype.kind in "iuf" and values.dtype.isnative
        is_plain = type(values) is np.ndarray and values.ndim == 1 and is_number  # none with a mask
        return array_of(values) if is_plain else pa.array(values)
    kinds = set(map(type, values))
    own = kinds - {NoneType}
    if len(own) != 1 or not own <= _KINDS.keys() or (own == {str} and "pandas" in sys.modules):  # where it is faster
        return pa.array(values)
    return _by_hand(own.pop(), values, NoneType in kinds)


def _by_hand(kind: type, values: list[Any], has_none: bool) -> pa.Array:
    arrow, dtype = _KINDS[kind]
    filled, buffers = values, [None]
    if has_none:
        buffers = [_bits([value is not None for value in values])]
        filled = [kind() if value is None else value for value in values]
    if kind is str:
        encoded = [value.encode() for value in filled]
        ends = np.cumsum([0, *map(len, encoded)])
        if ends[-1] >= 1 << 31:
            return pa.array(values)
        buffers += [pa.py_buffer(ends.astype(dtype)), pa.py_buffer(b"".join(encoded))]
    else:
        buffers += [pa.py_buffer(np.array(filled, dtype))]
    return pa.Array.from_buffers(arrow, len(values), buffers)
