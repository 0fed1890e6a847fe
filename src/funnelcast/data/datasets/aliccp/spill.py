"""Joined training rows on disk, between the pass that counts their ids and the pass that writes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from funnelcast.data.arrow import array_of, numbers_of
from funnelcast.data.columns import Ragged
from funnelcast.data.datasets.aliccp.join import Joined


class Spill:
    """An Arrow stream of `Joined` blocks; written once in a `with` block, then read block by block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self._writer: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, joined: Joined) -> None:
        columns = {"codes": _fixed(joined.codes), "labels": _fixed(joined.labels), "places": array_of(joined.indices)}
        columns |= {f"list {f}": _lists(lists) for f, lists in enumerate(joined.lists)}
        columns |= {name: joined.side[name].combine_chunks() for name in joined.side.column_names}
        batch = pa.record_batch(columns)
        if self._writer is None:
            self._writer = pa.ipc.new_stream(str(self.path), batch.schema)
        self._writer.write_batch(batch)
        self.rows += batch.num_rows

    def read(self) -> Iterator[Joined]:
        with pa.OSFile(str(self.path)) as file, pa.ipc.open_stream(file) as stream:
            for batch in stream:
                lists = [name for name in batch.schema.names if name.startswith("list ")]
                side = batch.drop_columns(["codes", "labels", "places", *lists])
                yield Joined(
                    _matrix(batch["codes"]),
                    [_ragged(batch[name]) for name in lists],
                    numbers_of(batch["places"]),
                    _matrix(batch["labels"]),
                    pa.Table.from_batches([side]),
                    0,
                )


def _fixed(matrix: NDArray[Any]) -> pa.Array:
    """(N, width) as lists of one length; as nulls where that is 0, which Arrow's lists are not."""
    rows, width = matrix.shape
    return pa.FixedSizeListArray.from_arrays(array_of(matrix.reshape(-1)), width) if width else pa.nulls(rows)


def _matrix(lists: pa.Array) -> NDArray[Any]:
    if pa.types.is_null(lists.type):
        return np.empty((len(lists), 0), np.int32)
    return numbers_of(lists.flatten()).reshape(-1, lists.type.list_size)


def _lists(lists: Ragged) -> pa.Array:
    assert lists.weights is not None, "raw lists have a value for each id"
    items = pa.StructArray.from_arrays([array_of(lists.ids), array_of(lists.weights)], ["code", "weight"])
    return pa.ListArray.from_arrays(array_of(lists.offsets.astype(np.int32)), items)


def _ragged(lists: pa.Array) -> Ragged:
    codes, weights = (numbers_of(column).copy() for column in lists.values.flatten())
    return Ragged(numbers_of(lists.offsets).astype(np.int64), codes, weights)
