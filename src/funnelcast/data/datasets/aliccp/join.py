"""Skeleton rows joined with their common features, both as codes; memory holds a block and a memory map.

Of a single-valued field the common line's id goes before the skeleton line's. Of a multi-valued field the ids of both
are kept, the common line's first. (In the real data no field stands in both.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from funnelcast.compiled import compiled
from funnelcast.data.arrow import array_of
from funnelcast.data.columns import Ragged
from funnelcast.data.datasets.aliccp.codes import FieldTables
from funnelcast.data.datasets.aliccp.common_features import CommonFeatures
from funnelcast.data.datasets.aliccp.files import Source
from funnelcast.data.datasets.aliccp.ids import Int32s
from funnelcast.data.datasets.aliccp.lists import lists_of
from funnelcast.data.datasets.aliccp.rows import LineReader, Lines
from funnelcast.data.datasets.aliccp.tokens import MISSING, Int64s
from funnelcast.data.datasets.aliccp.truth import Truth
from funnelcast.data.labels import mend
from funnelcast.errors import DataError
from funnelcast.schema.dataset import Schema

LABELS = ("click", "conversion")


@dataclass(frozen=True)
class Joined:
    """The rows of a block that are kept, in file order."""

    codes: Int32s  # (N, F), 0 for missing too
    lists: list[Ragged]
    """Codes of each multi-valued field; empty ones of a shared field are those of the row's common line."""
    indices: Int32s  # (N,) of the common lines
    labels: NDArray[np.uint8]  # (N, T)
    side: pa.Table  # (N) rows
    inconsistent: int
    """Rows whose labels contradict the funnel, kept or not."""


@dataclass(frozen=True)
class Joiner:
    """Joins a skeleton file with its common features and keeps the rows that the funnel allows."""

    schema: Schema
    tables: FieldTables
    skeleton: Source
    common: CommonFeatures
    grow: bool
    """Whether new ids get codes."""

    def read(self, reader: LineReader, *then: Callable[[Any], Any]) -> None:
        """Hand the kept rows of each block, `Joined`, to the first of `then`, and what that makes to the next one.
        Raises DataError."""
        truth = Truth.next_to(self.skeleton)
        reader.go_through(self.skeleton, partial(self._joined, truth=truth), *then, index=self.common.index)
        if truth is not None:
            truth.finish()

    def _joined(self, lines: Lines, truth: Truth | None) -> Joined:
        labels, rows, inconsistent = self._kept(lines)
        codes = self.tables.codes(lines.tokens.values, grow=self.grow)
        merged, indices = np.empty((len(rows), len(codes)), np.int32), lines.indices[rows]
        _merge(codes, self.common.codes, indices, rows, merged)
        own = self.tables.list_codes(lists_of(lines.tokens.items, rows, len(self.common.lists)), grow=self.grow)
        lists = [self.common.complete(f, each, indices) for f, each in enumerate(own)]
        return Joined(merged, lists, indices, labels, self._side(lines, rows, truth), inconsistent)

    def _kept(self, lines: Lines) -> tuple[NDArray[np.uint8], Int64s, int]:
        good = np.flatnonzero(lines.good)
        columns = [LABELS.index(name) for name in self.schema.funnel.label_columns]
        try:
            labels, keep, inconsistent = mend(lines.tokens.labels[good][:, columns], self.schema.funnel)
        except DataError as error:
            last = lines.first + len(lines) - 1
            raise DataError(f"{self.skeleton.path}, lines {lines.first} to {last}: {error}") from None
        return labels[keep], good[keep], inconsistent

    def _side(self, lines: Lines, rows: Int64s, truth: Truth | None) -> pa.Table:
        sample_ids = lines.sample_ids(rows)
        columns = {"sample_id": sample_ids} if "sample_id" in self.schema.keep else {}
        if truth is not None:
            columns |= truth.side(truth.take(len(lines)).take(array_of(rows)), sample_ids)
        return pa.table(columns)


@compiled
def _merge(codes: Int32s, common: Int32s, indices: Int32s, rows: Int64s, merged: Int32s) -> None:
    """Row i of `merged` (N, F): the common line's codes, and those of line rows[i] where it has none."""
    for i in range(len(rows)):
        row = rows[i]
        for f in range(len(codes)):
            code = common[indices[i], f]
            if code == MISSING:
                code = codes[f, row]
            merged[i, f] = max(code, 0)
