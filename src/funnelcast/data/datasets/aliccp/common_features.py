"""The features of all common lines as codes, in memory-mapped files; memory holds what finds them. About 58 rows have
one line, which has most ids of multi-valued fields: its lists are kept, counted and stored once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from funnelcast.compiled import compiled
from funnelcast.data.columns import Ragged
from funnelcast.data.datasets.aliccp.codes import FieldTables
from funnelcast.data.datasets.aliccp.files import Source
from funnelcast.data.datasets.aliccp.ids import IdTable, Int32s, Int64s
from funnelcast.data.datasets.aliccp.lists import lists_of
from funnelcast.data.datasets.aliccp.mapped_files import MappedLists, MappedRows
from funnelcast.data.datasets.aliccp.rows import LineReader, Lines


class CommonFeatures:
    """The codes and the lists of every common line by its place, and the index that finds it."""

    def __init__(self, path: Path, single: int, multi: int) -> None:
        """`path`: what the names of the files begin with; numbers of single-valued and multi-valued fields."""
        self.index = IdTable()
        self.repeated = 0
        """Lines whose index stood before; the last one holds, as in AITM's dict."""
        self.lists = [MappedLists(path.with_name(f"{path.name}.{f}")) for f in range(multi)]
        self._codes = MappedRows(path.with_name(f"{path.name}.codes"), single, np.int32)
        self._rows: dict[int, Int64s] = {}  # by shared field, rows that refer to the list of each line (K,)

    @property
    def codes(self) -> Int32s:
        """(K, F), of all common lines."""
        return self._codes.rows

    @property
    def shared(self) -> tuple[int, ...]:
        """The multi-valued fields that any common line has: their lists are shared by the rows of a line."""
        return tuple(f for f, lists in enumerate(self.lists) if lists.total)

    def read(self, reader: LineReader, source: Source, tables: FieldTables, *, grow: bool) -> None:
        """`grow`: new ids get codes."""
        reader.go_through(source, partial(self._add, tables=tables, grow=grow))
        self._rows = {f: np.zeros(self.index.size, np.int64) for f in self.shared}

    def _add(self, lines: Lines, tables: FieldTables, grow: bool) -> None:
        good = np.flatnonzero(lines.good)
        codes = tables.codes(lines.tokens.values[:, good], grow=grow)
        lists = tables.list_codes(lists_of(lines.tokens.items, good, len(self.lists)), grow=grow)
        before = self.index.size
        indices = self.index.intern(lines.tokens.keys[good], np.ones(len(good), bool)) - 1
        self.repeated += len(indices) - (self.index.size - before)
        self._codes.grow(self.index.size)
        self.codes[indices] = codes.T  # of a repeated place numpy keeps the last
        for field, each in zip(self.lists, lists, strict=True):
            field.put(indices, each, self.index.size)

    def complete(self, field: int, own: Ragged, indices: Int32s) -> Ragged:
        """The own lists of rows (N,): behind the list of the row's common line; left empty where there is no own id."""
        has = np.diff(own.offsets) > 0
        if field not in self._rows or not has.any():
            return own
        both = Ragged.concatenate([self.lists[field].take(indices, has), own])
        pairs = both.take(np.arange(2 * len(own)).reshape(2, -1).T.ravel())
        return Ragged(pairs.offsets[::2].copy(), pairs.ids, pairs.weights)

    def refer(self, indices: Int32s, lists: Sequence[Ragged]) -> None:
        """Note the rows of a block: where a row's list of a shared field is empty, that of its line counts for it."""
        for f, rows in self._rows.items():
            _refer(indices, lists[f].offsets, rows)

    def count(self, tables: FieldTables) -> None:
        """Count the lists of all lines, each as often as rows referred to it."""
        for f, rows in self._rows.items():
            for indices, lists in self.lists[f].chunks():
                tables.count_shared(f, lists, rows[indices])


@compiled
def _refer(indices: Int32s, offsets: Int64s, rows: Int64s) -> None:
    for i in range(len(indices)):
        rows[indices[i]] += offsets[i] == offsets[i + 1]
