"""Small data: random splits of all of a table's rows, each a table of its own, in place of one test part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from funnelcast.data.files import new_folder
from funnelcast.data.table import Table
from funnelcast.data.table_writer import TableWriter
from funnelcast.evaluation.repeated_splits import Ints, repeated_splits
from funnelcast.evaluation.rows import Array
from funnelcast.experiments.groups import group_by

PARTS = ("train", "dev", "test")
TEST_SHARE, DEV_SHARE = 0.2, 0.1
"""Of all rows; and of those that are not tested."""


def split_tables(table: Table, folder: Path, splits: int, by: str | None = None) -> list[Table]:
    """So many tables below `folder`, made unless they are there; each tests a fifth of the rows, and takes a tenth of
    the others for dev. `by`: no group of a kept column or id feature has rows in two parts. Ids stay those of `table`,
    which were chosen in its training part. Raises TableError for `by`, ComparisonError for too few rows or groups."""
    folders = [folder / str(i) for i in range(splits)]
    if not all((path / "manifest.json").is_file() for path in folders):
        labels = np.concatenate([np.asarray(table.part(part).labels) for part in _parts(table)])
        groups = None if by is None else _keys(table, by)
        found = repeated_splits(len(labels), splits, TEST_SHARE, 0, labels, groups)
        for i, (path, split) in enumerate(zip(folders, found, strict=True)):
            if not (path / "manifest.json").is_file():
                own = None if groups is None else groups[split.train]
                (dev,) = repeated_splits(len(split.train), 1, DEV_SHARE, i, labels[split.train], own)
                rows = split.train[dev.train], split.train[dev.test], split.test
                _write(table, path, dict(zip(PARTS, rows, strict=True)))
    return [Table.open(path) for path in folders]


def _parts(table: Table) -> list[str]:
    return [part for part in PARTS if table.rows(part)]


def _keys(table: Table, by: str) -> Array:
    """(N,) of all rows: whole numbers that are the same where the keys are."""
    keys = [group_by(table, table.part(part), table.side(part), by).keys for part in _parts(table)]
    return np.unique(np.concatenate(keys), return_inverse=True)[1]


def _write(table: Table, path: Path, rows: dict[str, Ints]) -> None:
    """A table of the rows (n,) of each part, counted over all parts of the other."""
    with new_folder(path, replace=True, mark="manifest.json") as folder, TableWriter(folder) as writer:
        start = 0
        for source in _parts(table):
            size = table.rows(source)
            for part, chosen in rows.items():
                own = chosen[(chosen >= start) & (chosen < start + size)] - start
                side: pa.Table = table.side(source).take(own)
                writer.part(part).append(table.part(source).take(own), side)
            start += size
        writer.finish(table.encoder, {})
