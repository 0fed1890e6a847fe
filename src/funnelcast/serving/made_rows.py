"""Raw rows that are made from what an encoder knows: to warm a model up, and to compare one with another."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from funnelcast.data.arrow import array_of
from funnelcast.data.encoder import Encoder
from funnelcast.data.numeric import Bins
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.schema.features import MultiValued, Sequence

UNKNOWN, MISSING = 0.1, 0.1
"""Shares of values that the encoder does not know, and that are missing."""
LONGEST = 6
"""Ids in a list."""


def made_rows(encoder: Encoder, rows: int, seed: int = 0) -> pa.RecordBatch:
    """Rows (N,) of every column that the encoder reads: known values, unknown and missing ones; the same for a seed."""
    rng = np.random.default_rng(seed)
    columns: dict[str, pa.Array] = {}
    for name, feature in encoder.schema.features.items():
        column = encoder.schema.column(name)
        if feature.kind == "numeric":
            columns[column] = _numbers(encoder, name, rows, rng)
            continue
        vocabulary = encoder.vocabularies[encoder.schema.vocabulary(name)]
        if feature.kind == "categorical":
            columns[column] = _ids(vocabulary, rows, rng)
        else:
            columns |= _lists(feature, column, vocabulary, rows, rng)
    return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))


def _ids(vocabulary: Vocabulary, rows: int, rng: np.random.Generator) -> pa.Array:
    unknown = pa.array([2**62] if vocabulary.is_integer else ["\N{WHITE QUESTION MARK ORNAMENT}"])
    values = pa.concat_arrays([vocabulary.values, unknown.cast(vocabulary.values.type)])
    chosen = rng.integers(0, max(1, len(vocabulary.values)), rows)
    chosen[rng.random(rows) < UNKNOWN] = len(values) - 1
    return values.take(array_of(chosen, rng.random(rows) < MISSING))


def _numbers(encoder: Encoder, name: str, rows: int, rng: np.random.Generator) -> pa.Array:
    transform = encoder.numbers[name]
    if isinstance(transform, Bins):
        edges = np.asarray(transform.edges or (0.0,), np.float64)
        values = rng.uniform(edges[0] - 1, edges[-1] + 1, rows)
    else:
        values = rng.normal(transform.mean, transform.std, rows)
    return array_of(values, rng.random(rows) < MISSING)


def _lists(
    feature: MultiValued | Sequence, column: str, vocabulary: Vocabulary, rows: int, rng: np.random.Generator
) -> dict[str, pa.Array]:
    """The column, and that of its weights; without the separator of texts, as lists are always read."""
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, LONGEST + 1, rows))])
    made = {column: _list(offsets, _ids(vocabulary, int(offsets[-1]), rng))}
    if feature.kind == "multi" and feature.weights is not None:
        made[feature.weights] = _list(offsets, array_of(rng.uniform(0, 2, offsets[-1])))
    return made


def _list(offsets: NDArray[np.int64], values: pa.Array) -> pa.Array:
    return pa.LargeListArray.from_arrays(array_of(offsets), values)
