"""A generated log of the published shape: searches whose rows share what is known of user and query."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from funnelcast.data.datasets.aliexpress.prepare import CATEGORICAL, COLUMNS, NUMERICAL

SHARED = (*CATEGORICAL[:9], *NUMERICAL[:23])
"""The columns that are the same in all rows of a search."""


def draw(searches: int, seed: int, *, rows_each: int = 3) -> pa.Table:
    """Rows of `searches` pages, each column with values of its own; numbers within 0 and 1, six digits."""
    rng = np.random.default_rng(seed)
    search = np.repeat(np.arange(searches), rows_each)
    columns: dict[str, NDArray[Any]] = {"search_id": search}
    for i, name in enumerate(CATEGORICAL):
        columns[name] = rng.integers(0, 2 + i, len(search))
    for name in NUMERICAL:
        columns[name] = rng.integers(0, 1_000_001, len(search)) / 1e6
    for name in SHARED:
        columns[name] = columns[name][search * rows_each]
    outcome = rng.choice(3, len(search), p=[0.6, 0.3, 0.1])
    columns |= {"click": (outcome > 0).astype(int), "conversion": (outcome == 2).astype(int)}
    return pa.table(columns)


def write(path: Path, rows: pa.Table, show: Callable[[object], str] = str) -> Path:
    """A CSV of `rows` as pandas writes one without its index; `show` writes the categorical values."""
    texts = [[(show if n in CATEGORICAL else str)(v) for v in rows[n].to_pylist()] for n in rows.column_names]
    lines = [",".join(rows.column_names), *map(",".join, zip(*texts, strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_pair(folder: Path, searches: int = 80) -> tuple[Path, Path]:
    """train.csv and test.csv."""
    rows = draw(searches, 0), draw(searches // 2, 1)
    assert tuple(rows[0].column_names) == COLUMNS
    return write(folder / "train.csv", rows[0]), write(folder / "test.csv", rows[1])
