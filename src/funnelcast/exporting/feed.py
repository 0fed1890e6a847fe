"""Rows as the inputs of an exported model, and the names and types of these."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from funnelcast.data.columns import Columns
from funnelcast.data.encoder import Encoder, InputSpec, flat_lists
from funnelcast.data.vocabulary import Vocabulary

Feed = dict[str, NDArray[Any]]
"""Arrays by the name of an input."""


def encoded_feed(inputs: InputSpec, columns: Columns, shortest: int = 1) -> Feed:
    """What `model.onnx` reads of encoded rows; lists are padded to the longest of them, and at least `shortest`."""
    feed: Feed = {}
    if inputs.fields:
        feed["ids"] = columns.ids
    if inputs.numeric:
        feed["numeric"] = columns.numeric
    for each in inputs.lists:
        own = columns.ragged[each.name]
        own = own if own.index is None else own.take(np.arange(len(own)))
        feed |= _padded(each.name, own.offsets, {"": own.ids, ".weights": own.weights}, shortest)
    return feed


def raw_feed(encoder: Encoder, rows: pa.RecordBatch, shortest: int = 1) -> Feed:
    """What `raw.onnx` reads of raw rows, whose lists are lists and whose values are of the vocabularies' types. Lists
    are padded to the longest of them, and at least `shortest`."""
    feed: Feed = {}
    for name, feature in encoder.schema.features.items():
        column = rows.column(encoder.schema.column(name))
        if feature.kind == "numeric":
            feed[name] = np.asarray(column.cast(pa.float64()).fill_null(np.nan))
            continue
        vocabulary = encoder.vocabularies[encoder.schema.vocabulary(name)]
        if feature.kind == "categorical":
            feed[name] = _values(column, vocabulary)
            continue
        values, offsets = flat_lists(column, name)
        parts = {"": _values(values, vocabulary)}
        if feature.kind == "multi" and feature.weights is not None:
            weights, _ = flat_lists(rows.column(feature.weights), name)
            parts[".weights"] = np.asarray(weights.cast(pa.float64()).fill_null(np.nan))
        feed |= _padded(name, offsets, parts, shortest)
    return feed


def missing_value(vocabulary: Vocabulary) -> int | str:
    """What stands for a missing id in `raw.onnx`: the least value that is none of the vocabulary."""
    values = (-(2**63) + i if vocabulary.is_integer else " " * i for i in count())
    kind = vocabulary.values.type
    return next(v for v in values if not pc.is_in(pa.scalar(v, kind), vocabulary.values).as_py())


def _values(column: pa.Array, vocabulary: Vocabulary) -> NDArray[Any]:
    filled = column.cast(vocabulary.values.type).fill_null(missing_value(vocabulary))
    return np.asarray(filled) if vocabulary.is_integer else np.array(filled.to_pylist(), object)


def _padded(name: str, offsets: NDArray[np.int64], parts: dict[str, Any], shortest: int) -> Feed:
    lengths = np.diff(offsets)
    held = np.arange(max(shortest, lengths.max(initial=0))) < lengths[:, None]
    feed: Feed = {f"{name}.length": lengths}
    for suffix, values in parts.items():
        if values is not None:
            feed[name + suffix] = np.full(held.shape, "" if values.dtype == object else 0, values.dtype)
            feed[name + suffix][held] = values
    return feed
