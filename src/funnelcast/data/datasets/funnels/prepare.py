"""Public funnels to prepared tables: a fifth of the rows is test, and the schema splits dev off the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from funnelcast.data.datasets.funnels.fbads import FBADS
from funnelcast.data.datasets.funnels.hotel import HOTEL
from funnelcast.data.datasets.funnels.ml100k import ML100K
from funnelcast.data.datasets.funnels.oulad import OULAD
from funnelcast.data.datasets.funnels.public_funnel import PublicFunnel, newest_fifth, random_fifth
from funnelcast.data.log.prepare import prepare
from funnelcast.data.progress import Progress, silent
from funnelcast.errors import DataError, did_you_mean
from funnelcast.schema.dataset import Schema

FUNNELS: Final = {each.name: each for each in (OULAD, HOTEL, FBADS, ML100K)}


def funnel_schema(name: str) -> Schema:
    """The shipped schema of a public funnel. Raises DataError for an unknown name."""
    return Schema.from_toml(Path(__file__).with_name(f"{_named(name).name}.toml"))


def prepare_funnel(
    name: str,
    out: Path | str,
    *,
    file: Path | str | None = None,
    seed: int = 0,
    newest: bool = False,
    replace: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write the table of `oulad`, `hotel`, `fbads` or `ml100k` to the folder `out` and return its manifest.

    `file`: where the data is, of ml100k a folder; oulad is shipped. Test is a random fifth by `seed`, of hotel's
    parties, or the `newest` fifth. Raises DataError where the data is not there, is not the published one, or has no
    times.
    """
    found = _named(name)
    path = _path(found, file)
    if seed < 0:
        raise DataError(f"seed {seed} is negative; give 0 or more")
    if newest and found.time is None:
        raise DataError(f"{name} has no times, so no rows are the newest; leave out --newest for a random split")
    progress("convert", 0, found.rows, "rows", path.name)
    rows = found.rows_of(path)
    progress("convert", len(rows), found.rows, "rows", path.name)
    test = newest_fifth(rows[found.time]) if newest else random_fifth(_groups(found, rows), seed)
    parts = {part: _arrow(rows[mask]) for part, mask in (("train", ~test), ("test", test))}
    return prepare(funnel_schema(name), Path(out), **parts, replace=replace, progress=progress)


def _named(name: str) -> PublicFunnel:
    if name not in FUNNELS:
        raise DataError(f"{name!r} is no public funnel; {did_you_mean(name, FUNNELS)}")
    return FUNNELS[name]


def _path(found: PublicFunnel, file: Path | str | None) -> Path:
    if found.shipped is not None:
        if file is not None:
            raise DataError(f"{found.name} is shipped with funnelcast and takes no file; leave {file} out")
        return found.shipped
    if file is None:
        raise DataError(f"{found.name} is not shipped, and no file is given; {found.source}")
    return Path(file)


def _groups(found: PublicFunnel, rows: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.arange(len(rows)) if found.group is None else rows[found.group].to_numpy()


def _arrow(rows: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(rows, preserve_index=False)
