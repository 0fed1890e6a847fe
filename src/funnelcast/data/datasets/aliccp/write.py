"""Joined rows of codes to the parts of a table; the lists that rows of a common line share are stored once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from funnelcast.data.arrow import array_of
from funnelcast.data.columns import Columns, Ragged
from funnelcast.data.datasets.aliccp.codes import Fitted
from funnelcast.data.datasets.aliccp.common_features import CommonFeatures
from funnelcast.data.datasets.aliccp.ids import Int32s, Int64s
from funnelcast.data.datasets.aliccp.join import Joined
from funnelcast.data.table_writer import TableWriter


class PartRows(NamedTuple):
    """Rows of a block that belong to one part."""

    part: str
    joined: Joined
    rows: Int64s  # (n,)


class Encoded(NamedTuple):
    """They as the part takes them."""

    part: str
    columns: Columns
    indices: Int32s  # (n,) of the common lines
    side: pa.Table | None


class RowWriter:
    """Writes rows of the parts that one pair of raw files becomes."""

    def __init__(
        self,
        writer: TableWriter,
        parts: Sequence[str],
        multi: Mapping[str, bool],
        fitted: Fitted,
        common: CommonFeatures,
    ) -> None:
        """Writes the shared lists of all common lines. `multi`: by feature, whether its weights are kept."""
        self.writer, self.parts, self.multi, self.fitted = writer, parts, multi, fitted
        names = list(multi)
        self._shared = {names[field] for field in common.shared}
        for field in common.shared:
            for _, lists in common.lists[field].chunks():
                writer.share(parts, names[field], self._encoded(field, lists))

    def encoded(self, own: PartRows) -> Encoded:
        """What is to be appended to a part."""
        joined, rows = own.joined, own.rows
        columns = Columns(
            self.fitted.ids(joined.codes, rows),
            np.empty((len(rows), 0), np.float32),
            {name: self._encoded(f, joined.lists[f].take(rows)) for f, name in enumerate(self.multi)},
            joined.labels[rows],
        )
        side = joined.side.take(array_of(rows)) if joined.side.num_columns else None
        return Encoded(own.part, columns, joined.indices[rows], side)

    def append(self, encoded: Encoded) -> Encoded:
        """To its part, but for what `append_side` does; lists that are the rows' own are added to the shared ones."""
        lists = {name: self._stored(name, each, encoded.indices) for name, each in encoded.columns.ragged.items()}
        if len(encoded.columns):
            self.writer.part(encoded.part).append(replace(encoded.columns, ragged=lists))
        return encoded

    def append_side(self, encoded: Encoded) -> None:
        """The kept columns of rows that were appended; another thread may append others meanwhile."""
        if encoded.side is not None and len(encoded.side):
            self.writer.part(encoded.part).append_side(encoded.side)

    def _encoded(self, field: int, lists: Ragged) -> Ragged:
        lists = self.fitted.lists(field, lists)
        return lists if list(self.multi.values())[field] else replace(lists, weights=None)

    def _stored(self, name: str, lists: Ragged, indices: Int32s) -> Ragged:
        """Lists of rows as a part takes them. Of a shared feature a row without own ids has the list of its common
        line, and own lists are added to the shared ones, so that every row has an index.
        """
        if name not in self._shared:
            return lists
        own, index = np.flatnonzero(np.diff(lists.offsets)), indices.copy()
        if len(own):
            first = self.writer.share(self.parts, name, lists.take(own))
            index[own] = np.arange(first, first + len(own))
        return replace(lists, index=index)
