"""64-bit hashes of encoded rows and lists: equal rows have equal ones; of 40 million others, two in 10,000 tables."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.columns import UNOBSERVED, Columns, Ragged
from funnelcast.data.table import Unknown
from funnelcast.data.unknown_values import GOLDEN, Hashes, mix

_IDS = 4_000_000  # ids of lists that are hashed at once


def add(hashes: Hashes, column: NDArray[np.int32] | NDArray[np.float32]) -> Hashes:
    """(n,) hashes of rows with one more column (n,) of 32 bits; -0.0 is 0.0."""
    bits = (column + np.float32(0)) if column.dtype == np.float32 else column
    return mix((hashes + GOLDEN) ^ np.ascontiguousarray(bits).view(np.uint32))


def of_lists(lists: Ragged, *, ordered: bool) -> Hashes:
    """(K,) of the lists that are stored; without order, equal ids and weights in any order are equal."""
    return np.concatenate([np.zeros(0, np.uint64), *_of_lists(lists, ordered)])


def _of_lists(lists: Ragged, ordered: bool) -> Iterator[Hashes]:
    first, count = 0, len(lists.offsets) - 1
    while first < count:
        end = int(np.searchsorted(lists.offsets, lists.offsets[first] + _IDS, side="right")) - 1
        end = min(max(end, first + 1), count)
        yield _sums(_slice(lists, first, end), ordered)
        first = end


def _slice(lists: Ragged, first: int, end: int) -> Ragged:
    start, stop = int(lists.offsets[first]), int(lists.offsets[end])
    weights = None if lists.weights is None else np.asarray(lists.weights[start:stop])
    return Ragged(np.asarray(lists.offsets[first : end + 1]) - start, np.asarray(lists.ids[start:stop]), weights)


def _sums(lists: Ragged, ordered: bool) -> Hashes:
    lengths = np.diff(lists.offsets)
    positions = np.arange(len(lists.ids)) - np.repeat(lists.offsets[:-1], lengths) if ordered else np.zeros(1, np.int64)
    each = add(np.broadcast_to(positions.astype(np.uint64), len(lists.ids)), lists.ids)
    if lists.weights is not None:
        each = add(each, lists.weights)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(each, dtype=np.uint64)])  # modulo 2^64, so exact
    return mix(sums[lists.offsets[1:]] - sums[lists.offsets[:-1]] + GOLDEN * lengths.astype(np.uint64))


class RowHasher:
    """Hashes rows of a part, some at a time; memory holds the hashes of lists that rows share."""

    def __init__(self, columns: Columns, sequences: frozenset[str], unknown: Unknown | None = None) -> None:
        """`sequences`: the features whose lists have an order; `unknown`: the rows with ids that became unknown, which
        are compared by what these were."""
        self._columns, self._sequences, self._unknown = columns, sequences, unknown
        self._shared = {
            name: of_lists(lists, ordered=name in sequences)
            for name, lists in columns.ragged.items()
            if lists.index is not None
        }

    def features(self, start: int, stop: int) -> Hashes:
        """(n,) of all features of rows [start, stop)."""
        hashes = np.zeros(stop - start, np.uint64)
        for block in (self._columns.ids[start:stop], self._columns.numeric[start:stop]):
            for column in np.ascontiguousarray(np.asarray(block).T):
                hashes = add(hashes, column)
        for name, lists in self._columns.ragged.items():
            hashes = mix((hashes + GOLDEN) ^ self._lists(name, lists, start, stop))
        if self._unknown is not None:
            first, end = np.searchsorted(self._unknown.rows, [start, stop])
            rows = self._unknown.rows[first:end] - start
            hashes[rows] = mix(hashes[rows] ^ self._unknown.hashes[first:end])
        return hashes

    def _lists(self, name: str, lists: Ragged, start: int, stop: int) -> Hashes:
        if lists.index is not None:
            return self._shared[name][lists.index[start:stop]]
        return of_lists(_slice(lists, start, stop), ordered=name in self._sequences)

    def labels(self, start: int, stop: int) -> NDArray[np.int64]:
        """(n,) a number per combination of labels."""
        assert self._columns.labels is not None
        return combinations(np.asarray(self._columns.labels[start:stop]))


def combinations(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(n, T) -> (n,) a number per combination of labels."""
    digits = np.where(labels == UNOBSERVED, 2, labels).astype(np.int64)
    return digits @ (3 ** np.arange(labels.shape[1], dtype=np.int64))
