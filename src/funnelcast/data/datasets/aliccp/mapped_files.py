"""Matrices and lists in memory-mapped files that grow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from funnelcast.data.columns import Ragged, copy_lists
from funnelcast.data.datasets.aliccp.ids import Bools, Int32s, Int64s

_CHUNK = 4096  # lists that are read at a time


class MappedRows:
    """A matrix in a file; it grows by rows of zeros."""

    def __init__(self, path: Path, width: int, dtype: DTypeLike) -> None:
        self.rows: NDArray[Any] = np.empty((0, width), dtype)
        self._path = path
        path.touch()

    def grow(self, size: int) -> None:
        """To `size` rows in all; `rows` is another array then."""
        shape, dtype = (size, self.rows.shape[1]), self.rows.dtype
        with self._path.open("r+b") as file:
            file.truncate(shape[0] * shape[1] * dtype.itemsize)
        if all(shape):
            self.rows = np.memmap(self._path, dtype, "r+", shape=shape).view(np.ndarray)
        else:
            self.rows = np.empty(shape, dtype)


class MappedLists:
    """Lists of codes with weights by place, in files that only grow."""

    def __init__(self, path: Path) -> None:
        """`path`: what the names of the files begin with."""
        self.total = 0
        """Codes written; a list that is put anew leaves the old one behind."""
        self._spans = MappedRows(path.with_name(f"{path.name}.spans"), 2, np.int64)  # start and length by place
        self._codes, self._weights = (path.with_name(f"{path.name}.{kind}") for kind in ("codes", "weights"))

    def put(self, indices: Int32s, lists: Ragged, size: int) -> None:
        """The lists of `indices` (n,), of `size` in all; of a repeated place the last one holds."""
        self._spans.grow(size)
        if self.total or len(lists.ids):
            spans = np.stack([lists.offsets[:-1] + self.total, np.diff(lists.offsets)], axis=1)
            self._spans.rows[indices] = spans  # of a repeated place numpy keeps the last
        for path, values in ((self._codes, lists.ids), (self._weights, lists.weights)):
            with path.open("ab") as file:
                file.write(np.ascontiguousarray(values).data)
        self.total += len(lists.ids)

    def take(self, indices: Int32s | Int64s, where: Bools | bool = True) -> Ragged:
        """The lists of `indices` (n,); empty ones where `where` (n,) is false."""
        starts, lengths = self._spans.rows[indices].T.copy()
        offsets = np.zeros(len(indices) + 1, np.int64)
        np.cumsum(lengths * where, out=offsets[1:])
        return Ragged(
            offsets,
            _copied(self._codes, np.int32, starts, offsets),
            _copied(self._weights, np.float32, starts, offsets),
        )

    def chunks(self) -> Iterator[tuple[Int64s, Ragged]]:
        """Places and lists, all of them, in order."""
        for indices in np.split(np.arange(len(self._spans.rows)), range(_CHUNK, len(self._spans.rows), _CHUNK)):
            yield indices, self.take(indices)


def _copied(path: Path, dtype: DTypeLike, starts: Int64s, offsets: Int64s) -> NDArray[Any]:
    """Parts of a file, which is mapped for this copy alone, so that its pages do not stay in memory."""
    out = np.empty(offsets[-1], dtype)
    if len(out):
        copy_lists(np.asarray(np.memmap(path, dtype, "c")), starts, offsets, out)
    return out
