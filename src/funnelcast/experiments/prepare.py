"""`funnelcast.prepare`: a raw log to a prepared table, in the words of the command line."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import pyarrow as pa

from funnelcast.data.log import roles
from funnelcast.data.log.prepare import prepare as prepare_log
from funnelcast.data.progress import Progress, silent
from funnelcast.data.quarantine import DEFAULT_LIMIT
from funnelcast.errors import DataError, InputError
from funnelcast.schema.dataset import Schema
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.frames import as_arrow
from funnelcast.serving.predictor import Predictor, bundle_of


def prepare(
    schema: Schema | Path | str,
    out: Path | str,
    *,
    train: Any,
    dev: Any = None,
    test: Any = None,
    init: Bundle | Predictor | Path | str | None = None,
    max_bad: float = DEFAULT_LIMIT,
    replace: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write the table of a log to the folder `out` and return its manifest.

    `train`, `dev`, `test`: the path of a Parquet file, a folder of them or a CSV; or the rows, as a DataFrame, an Arrow
    table or a dict of columns. Rows become dev and test by the schema's `[split]` where none are given for them.
    `init`: a bundle to retrain, whose scaling of numbers and ids stay. Bad rows are listed in `OUT.quarantine.csv`, of
    rows in memory by their part and their number from 1. Raises ConfigError, DataError, BundleError, and
    QuarantineError above the share `max_bad` of the rows.
    """
    schema = schema if isinstance(schema, Schema) else Schema.from_toml(schema)
    given = {"train": train} | {part: log for part, log in (("dev", dev), ("test", test)) if log is not None}
    logs = _logs(schema, given)
    return prepare_log(
        schema,
        Path(out),
        train=logs["train"],
        dev=logs.get("dev"),
        test=logs.get("test"),
        init=None if init is None else bundle_of(init).encoder,
        max_bad=max_bad,
        replace=replace,
        progress=progress,
    )


def _logs(schema: Schema, given: dict[str, Any]) -> dict[str, Path | pa.Table]:
    """Paths, or rows, by part; one object for what is given as one. Raises DataError for what is neither."""
    found: dict[str, Path | pa.Table] = {}
    for part, log in given.items():
        twin = next((other for other in found if given[other] is log), None)
        found[part] = _log(schema, log, part) if twin is None else found[twin]
    return found


def _log(schema: Schema, given: Any, part: str) -> Path | pa.Table:
    if isinstance(given, str | PathLike):
        return Path(given)
    try:
        return as_arrow(_with_read_columns(schema, given))
    except InputError as error:
        raise DataError(f"{part}: {error}") from None


def _with_read_columns(schema: Schema, rows: Any) -> Any:
    """A data frame without columns that nothing reads, whose objects need not have one type; with them where one lacks,
    so that the nearest is named."""
    if not (hasattr(rows, "iloc") and hasattr(rows, "columns")):
        return rows
    have = [str(name) for name in rows.columns]
    needed, read = (roles.columns(roles.uses(schema, split=split)) for split in (False, True))
    return rows if needed.keys() - set(have) else rows.loc[:, [name in read for name in have]]
