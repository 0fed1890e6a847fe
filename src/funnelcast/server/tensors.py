"""Tensors of the Open Inference Protocol, in JSON and in Triton's binary extension, to Arrow and back."""

from __future__ import annotations

import struct
from itertools import chain
from math import prod
from types import NoneType
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from funnelcast.data.arrow import array_of, column_of
from funnelcast.errors import InputError, did_you_mean

DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "BOOL": np.dtype("?"),
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}
"""Of numbers; texts are BYTES."""
_KINDS: Final[dict[str, set[type]]] = {"BYTES": {str}, "BOOL": {bool}}
"""Of values in JSON."""
_LENGTH: Final = struct.Struct("<I")
_LARGEST: Final = 2**40
"""Elements, in the shape of a tensor."""


class Tensor(NamedTuple):
    """An input as it was sent."""

    name: str
    shape: tuple[int, ...]
    values: pa.Array
    """(product of the shape,), in row-major order."""


def tensor_of(said: Any, raw: bytes | None) -> Tensor:
    """An input from its JSON, and from its bytes where these stand apart. Raises InputError."""
    name = said.get("name") if isinstance(said, dict) else None
    if not isinstance(name, str):
        raise InputError("an input has no name; give each a name, a shape, a datatype and data")
    shape, datatype = _shape(said.get("shape"), name), said.get("datatype")
    if datatype != "BYTES" and datatype not in DTYPES:
        known = did_you_mean(str(datatype), [*DTYPES, "BYTES"])
        raise InputError(f"input {name!r} has the datatype {datatype!r}; {known}")
    if raw is None:
        values = _of_json(said.get("data"), datatype, name)
    else:
        values = _texts_of(raw, name) if datatype == "BYTES" else _numbers_of(raw, DTYPES[datatype], name)
    if len(values) != prod(shape):
        raise InputError(f"input {name!r} has the shape {list(shape)} but {len(values)} values; let both agree")
    return Tensor(name, shape, values)


def _shape(shape: Any, name: str) -> tuple[int, ...]:
    is_shape = isinstance(shape, list) and all(type(size) is int and 0 <= size < _LARGEST for size in shape)
    if not is_shape or not 1 <= len(shape) <= 8:
        raise InputError(f"input {name!r} has the shape {shape!r}; give a list of sizes, such as [100]")
    return tuple(shape)


def _of_json(data: Any, datatype: str, name: str) -> pa.Array:
    if not isinstance(data, list):
        raise InputError(f"input {name!r} has no data; give a list of its values, flat or nested as the shape")
    values = _flat(data, name)
    kinds = set(map(type, values)) - {NoneType}
    wanted = _KINDS.get(datatype, {int, float} if datatype.startswith("FP") else {int})
    if not kinds <= wanted:
        other = next(kind.__name__ for kind in kinds - wanted)
        raise InputError(f"input {name!r} is {datatype} and holds a value of type {other}; give one type of values")
    if datatype == "BYTES":
        return column_of(values) if kinds else pa.nulls(len(values), pa.string())
    kind = pa.from_numpy_dtype(DTYPES[datatype])
    if not kinds:
        return pa.nulls(len(values), kind)
    try:
        if kinds == {int, float}:
            values = [None if value is None else float(value) for value in values]
        return _as(column_of(values), kind)
    except (pa.ArrowException, OverflowError) as error:
        raise InputError(f"input {name!r} has a value that is no {datatype}: {error}") from None


def _as(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Half floats are not made from others, and have no use here."""
    return values if values.type == kind or pa.types.is_float16(kind) else values.cast(kind)


def _flat(data: list[Any], name: str) -> list[Any]:
    while any(isinstance(value, list) for value in data):
        if not all(isinstance(value, list) for value in data):
            raise InputError(f"the data of input {name!r} are lists and values side by side; nest all or none")
        data = list(chain.from_iterable(data))
    return data


def _numbers_of(raw: bytes, dtype: np.dtype[Any], name: str) -> pa.Array:
    if len(raw) % dtype.itemsize:
        raise InputError(
            f"input {name!r} has {len(raw)} bytes, which are no whole values of {dtype.itemsize} bytes; mend "
            "binary_data_size"
        )
    numbers = np.frombuffer(raw, dtype)
    if dtype.kind != "b":
        return array_of(numbers)
    return array_of(numbers.view(np.uint8)).cast(pa.bool_())


def _texts_of(raw: bytes, name: str) -> pa.Array:
    """Each text stands behind its length, of four bytes."""
    parts, at, end = list[bytes](), 0, len(raw)
    while at + 4 <= end:
        (length,) = _LENGTH.unpack_from(raw, at)
        at += 4 + length
        parts.append(raw[at - length : at])
    if at != end:
        raise InputError(f"the bytes of input {name!r} end within a text; mend the lengths or binary_data_size")
    ends = np.cumsum([0, *map(len, parts)]).astype(np.int32)
    texts = b"".join(parts)
    try:
        texts.decode()
    except UnicodeDecodeError:
        raise InputError(f"input {name!r} holds a text that is not UTF-8; encode it so") from None
    return pa.Array.from_buffers(pa.string(), len(parts), [None, pa.py_buffer(ends), pa.py_buffer(texts)])


def raw_of(values: NDArray[np.float64]) -> bytes:
    """The bytes of an FP64 output."""
    return np.ascontiguousarray(values, "<f8").tobytes()
