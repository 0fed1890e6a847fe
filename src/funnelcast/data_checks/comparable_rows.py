"""The rows of a part as they are compared: by what the log says, also where an id became unknown in the table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.columns import Columns, Ragged
from funnelcast.data.table import Table, Unknown
from funnelcast.data_checks.finding import ROWS
from funnelcast.data_checks.formatting import percent
from funnelcast.schema.features import IdFeature

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Compared:
    """The N rows of a part."""

    columns: Columns
    unknown: Unknown | None = None
    """Those with ids that became unknown, where the table holds what these were."""
    left_out: Mask | None = None
    """(N,) where it does not: the rows with an id that is missing or became unknown. Nobody knows which are equal."""

    def __len__(self) -> int:
        return len(self.columns)

    def kept(self, start: int, stop: int) -> Mask:
        """(n,) which of rows [start, stop) are compared."""
        return np.ones(stop - start, np.bool_) if self.left_out is None else ~self.left_out[start:stop]


def compared(table: Table, part: str, columns: Columns) -> Compared:
    """Those of a part of a table, whose columns are given. Raises TableError where the part is damaged."""
    unknown = table.unknown(part)
    return Compared(columns, unknown, _with_lost_ids(table, columns) if unknown is None else None)


def not_compared(parts: dict[str, Compared]) -> Iterator[str]:
    """How many rows are left out, and why."""
    for part, rows in parts.items():
        if rows.left_out is not None and rows.left_out.any():
            share = percent(float(rows.left_out.mean()))
            yield (
                f"{ROWS}: {share} of the {len(rows):,} {part} rows have an id that "
                "is missing, or too rare for its vocabulary, and the table does not hold which: they are left out; a "
                "table that `funnelcast prepare` makes anew of a log with a schema holds it"
            )


def _with_lost_ids(table: Table, columns: Columns) -> Mask:
    features = table.schema.features
    lossy = {name for name, each in features.items() if isinstance(each, IdFeature) and each.min_count > 1}
    lost = np.zeros(len(columns), np.bool_)
    for place, (name, _) in enumerate(table.encoder.inputs.fields):
        if name in lossy:
            lost |= columns.ids[:, place] == 0
    for name in lossy & columns.ragged.keys():
        lost |= _has_unknown(columns.ragged[name])
    return lost


def _has_unknown(lists: Ragged) -> Mask:
    """(N,) whether there is an unknown id in the list of a row."""
    zeros = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.asarray(lists.ids) == 0)])[lists.offsets]
    found: Mask = zeros[1:] > zeros[:-1]
    return found if lists.index is None else found[lists.index]
