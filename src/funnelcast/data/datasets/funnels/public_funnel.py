"""What a public funnel is: how its rows are read, which of them are its test part, and what they must be."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from funnelcast.data.files import sha256
from funnelcast.errors import DataError, did_you_mean

_SHOWN = 8  # hex digits


@dataclass(frozen=True)
class PublicFunnel:
    """A public funnel."""

    name: str
    read: Callable[[Path], pd.DataFrame]
    """The rows in a file or folder, in their published order, with features, labels and kept columns."""
    rows: int
    checksum: str
    """SHA-256 of these rows as CSV."""
    source: str
    """What to give, and where it can be had."""
    shipped: Path | None = None
    group: str | None = None
    """Column of rows that are never parted."""
    time: str | None = "time"
    """Column by which some rows are the newest."""

    def rows_of(self, path: Path) -> pd.DataFrame:
        """The rows in a file, checked. Raises DataError with what is wrong, and where the right one can be had."""
        try:
            rows = self.read(path)
        except FileNotFoundError as error:
            raise DataError(f"{error.filename} does not exist; {self.source}") from None
        except (OSError, ValueError, TypeError, BadZipFile, pa.ArrowException, DataError) as error:
            raise DataError(f"{path} cannot be read as {self.name}: {error}; {self.source}") from None
        if len(rows) != self.rows:
            raise DataError(f"{path} has {len(rows):,} rows, but {self.name} has {self.rows:,}; {self.source}")
        found = hashlib.sha256(rows.to_csv(index=False, lineterminator="\n").encode()).hexdigest()
        if found != self.checksum:
            raise DataError(
                f"{path}{_identity(path)} has the number of rows of {self.name}, but other values or another order: "
                f"sha256 {found[:_SHOWN]} of its rows, {self.checksum[:_SHOWN]} of the published ones; {self.source}"
            )
        return rows


def _identity(path: Path) -> str:
    return f" ({path.stat().st_size:,} bytes, sha256 {sha256(path)[:_SHOWN]})" if path.is_file() else ""


def require_columns(rows: pd.DataFrame, wanted: Collection[str]) -> None:
    """Raises DataError where one lacks."""
    have = list(map(str, rows.columns))
    if lacking := [name for name in wanted if name not in have]:
        raise DataError(f"it lacks the column {lacking[0]!r}; {did_you_mean(lacking[0], have[:30])}")


SHARE = 5
"""One row in so many is test."""
Mask = NDArray[np.bool_]


def random_fifth(groups: NDArray[np.int64], seed: int) -> Mask:
    """The rows of a random fifth of the groups; `groups` (N,): the number of each row's, from 0."""
    count = int(groups.max()) + 1
    is_test = np.zeros(count, np.bool_)
    is_test[np.random.default_rng(seed).permutation(count)[: count // SHARE]] = True
    return is_test[groups]


def newest_fifth(times: pd.Series) -> Mask:
    """The newest rows, at least a fifth; those of one time stay together."""
    ordered = times.sort_values(ignore_index=True)
    mask: Mask = (times >= ordered[int(len(times) * (1 - 1 / SHARE))]).to_numpy()
    return mask
