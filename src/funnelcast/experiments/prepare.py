"""`funnelcast.prepare`: a raw log to a prepared table, in the words of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from funnelcast.data.log.prepare import prepare as prepare_log
from funnelcast.data.progress import Progress, silent
from funnelcast.data.quarantine import DEFAULT_LIMIT
from funnelcast.schema.dataset import Schema
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.predictor import Predictor, bundle_of


def prepare(
    schema: Schema | Path | str,
    out: Path | str,
    *,
    train: Path | str,
    dev: Path | str | None = None,
    test: Path | str | None = None,
    init: Bundle | Predictor | Path | str | None = None,
    max_bad: float = DEFAULT_LIMIT,
    replace: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write the table of a log, Parquet or CSV, to the folder `out` and return its manifest.

    Rows become dev and test by the schema's `[split]` where no file is given for them. `init`: a bundle to retrain,
    whose scaling of numbers and ids stay. Bad rows are listed in `OUT.quarantine.csv`. Raises ConfigError, DataError,
    BundleError, and QuarantineError above the share `max_bad` of the rows.
    """
    return prepare_log(
        schema if isinstance(schema, Schema) else Schema.from_toml(schema),
        Path(out),
        train=Path(train),
        dev=None if dev is None else Path(dev),
        test=None if test is None else Path(test),
        init=None if init is None else bundle_of(init).encoder,
        max_bad=max_bad,
        replace=replace,
        progress=progress,
    )
