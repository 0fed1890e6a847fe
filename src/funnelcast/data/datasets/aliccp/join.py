"""Skeleton rows joined with their common features, both as codes; memory holds a block and a memory map."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from funnelcast.compiled import compiled
from funnelcast.data.datasets.aliccp.files import Source
from funnelcast.data.datasets.aliccp.ids import FieldTables, IdTable, Int32s
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
    labels: NDArray[np.uint8]  # (N, T)
    side: pa.Table  # (N) rows
    broken: int
    """Rows whose labels contradict the funnel, kept or not."""


class CommonFeatures:
    """The codes of every common line in a memory-mapped file, and the index that finds them."""

    def __init__(self, path: Path, fields: int) -> None:
        self.index = IdTable()
        self.repeated = 0
        """Lines whose index stood before; the last one holds, as in AITM's dict."""
        self.codes = np.empty((0, fields), np.int32)
        self._path = path
        path.touch()

    def read(self, lines: Iterator[Lines], tables: FieldTables, *, grow: bool) -> None:
        for block in lines:
            good = block.good
            codes = tables.codes(block.tokens.values[:, good], grow=grow)
            before = self.index.size
            places = self.index.intern(block.tokens.keys[good], np.ones(codes.shape[1], bool)) - 1
            self.repeated += len(places) - (self.index.size - before)
            self._extend()
            self.codes[places] = codes.T  # of a repeated place numpy keeps the last

    def _extend(self) -> None:
        shape = (self.index.size, self.codes.shape[1])
        with self._path.open("r+b") as file:
            file.truncate(4 * shape[0] * shape[1])
        if shape[0]:
            self.codes = np.memmap(self._path, np.int32, mode="r+", shape=shape).view(np.ndarray)


@dataclass(frozen=True)
class Joiner:
    """Joins a skeleton file with its common features and keeps the rows that the funnel allows."""

    schema: Schema
    reader: LineReader
    tables: FieldTables

    def rows(self, skeleton: Source, common: CommonFeatures, *, grow: bool) -> Iterator[Joined]:
        """The kept rows by block; `grow`: new ids get codes. Raises DataError."""
        truth = Truth.beside(skeleton)
        for lines in self.reader.lines(skeleton, common.index):
            labels, rows, broken = self._kept(lines, skeleton)
            codes = self.tables.codes(lines.tokens.values, grow=grow)
            merged = np.empty((len(rows), len(codes)), np.int32)
            _merge(codes, common.codes, lines.places, rows, merged)
            yield Joined(merged, labels, self._side(lines, rows, truth), broken)
        if truth is not None:
            truth.finish()

    def _kept(self, lines: Lines, skeleton: Source) -> tuple[NDArray[np.uint8], Int64s, int]:
        good = np.flatnonzero(lines.good)
        columns = [LABELS.index(name) for name in self.schema.funnel.label_columns]
        try:
            labels, keep, broken = mend(lines.tokens.labels[good][:, columns], self.schema.funnel)
        except DataError as error:
            last = lines.first + len(lines) - 1
            raise DataError(f"{skeleton.path}, lines {lines.first} to {last}: {error}") from None
        return labels[keep], good[keep], broken

    def _side(self, lines: Lines, rows: Int64s, truth: Truth | None) -> pa.Table:
        sample_ids = lines.sample_ids(rows)
        columns = {"sample_id": sample_ids} if "sample_id" in self.schema.keep else {}
        if truth is not None:
            columns |= truth.side(truth.take(len(lines)).take(rows), sample_ids)
        return pa.table(columns)


@compiled
def _merge(codes: Int32s, common: Int32s, places: Int32s, rows: Int64s, merged: Int32s) -> None:
    """Row i of `merged` (N, F): the common line's codes, and those of line rows[i] where it has none."""
    for i in range(len(rows)):
        row = rows[i]
        for f in range(len(codes)):
            code = common[places[row], f]
            if code == MISSING:
                code = codes[f, row]
            merged[i, f] = max(code, 0)
