"""Requests of every size before the first client's: kernels are compiled, graphs captured, tables in memory."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from funnelcast.data.arrow import array_of
from funnelcast.serving.made_rows import made_rows
from funnelcast.serving.predictor import Predictor

SIZES: Final = (1, 2, 7, 16, 50, 100, 200, 500, 513, 1000, 4096, 5000)
"""Rows; each of the ways that a batch is scored is among them."""


def warm_up(predictor: Predictor) -> None:
    """Score rows of all sizes, of every delta."""
    rows = made_rows(predictor.bundle.encoder, max(SIZES))
    key = predictor.key
    if key is not None:
        values = [*(delta.key[key] for delta in predictor.deltas), "none"]
        texts = np.array(values)[np.arange(rows.num_rows) % len(values)].tolist()
        rows = with_column(rows, key, pa.array(texts, pa.string()))
    for size in SIZES:
        predictor.score(predictor.encode(rows.take(array_of(np.arange(size)))))


def with_column(rows: pa.RecordBatch, name: str, values: pa.Array) -> pa.RecordBatch:
    """With a column in the place of the one of its name, read as that one is."""
    if name not in rows.schema.names:
        return rows.append_column(name, values)
    kind = rows.schema.field(name).type
    return rows.set_column(rows.schema.get_field_index(name), name, values.cast(kind))
