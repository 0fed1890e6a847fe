"""Joined training rows on disk, between the pass that counts their ids and the pass that writes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from funnelcast.data.datasets.aliccp.join import Joined


class Spill:
    """An Arrow stream of `Joined` blocks; written once in a `with` block, then read block by block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self._writer: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, joined: Joined) -> None:
        columns = {"codes": _as_lists(joined.codes), "labels": _as_lists(joined.labels)}
        columns |= {name: joined.side[name].combine_chunks() for name in joined.side.column_names}
        batch = pa.record_batch(columns)
        if self._writer is None:
            self._writer = pa.ipc.new_stream(str(self.path), batch.schema)
        self._writer.write_batch(batch)
        self.rows += batch.num_rows

    def read(self) -> Iterator[Joined]:
        with pa.OSFile(str(self.path)) as file, pa.ipc.open_stream(file) as stream:
            for batch in stream:
                side = pa.Table.from_batches([batch.drop_columns(["codes", "labels"])])
                yield Joined(_as_matrix(batch["codes"]), _as_matrix(batch["labels"]), side, 0)


def _as_lists(matrix: NDArray[Any]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])


def _as_matrix(lists: pa.Array) -> NDArray[Any]:
    return np.asarray(lists.flatten()).reshape(-1, lists.type.list_size)
