"""Adapting a bundle to the labelled rows of a file: one delta, or one for each value of a column."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from funnelcast.data.files import check_free, new_folder
from funnelcast.data.progress import Progress, silent
from funnelcast.errors import InputError
from funnelcast.experiments.file_rows import rows_with
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.delta import Delta
from funnelcast.serving.delta_file import SUFFIX, require_suffix
from funnelcast.serving.keys import key_texts
from funnelcast.serving.predictor import Predictor, bundle_of
from funnelcast.serving.support import TooFewRowsError
from funnelcast.training.adapting import Adapting

INDEX = "deltas.json"
"""In a folder of deltas: what the call that made it said."""


def adapt_file(
    bundle: Bundle | Predictor | Path | str,
    support: Path | str,
    out: Path | str,
    *,
    key: dict[str, str] | None = None,
    by: str | None = None,
    config: Adapting | None = None,
    replace: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Adapt to labelled raw rows, Parquet or CSV, and write the delta to the file `out`.

    `key`: such as {"campaign": "123"}, tags the delta, and where the rows have the column takes those of the value.
    `by`: a column instead, each value of which gets a delta of its own in the folder `out`; one with too few rows gets
    none. Returns under "deltas" what became of each, and the number of values that were "skipped". Raises
    FunnelcastError.
    """
    predictor, support, out = Predictor(bundle_of(bundle)), Path(support), Path(out)
    if key and by is not None:
        raise InputError("a key and `by` were both given; give a key for one delta, or `by` for one of each value")
    if by is None:
        require_suffix(out)
        check_free(out, replace=replace)
    column = by if by is not None else next(iter(key or {}), None)
    rows = pa.Table.from_batches(rows_with(support, predictor.bundle.encoder, out, column))
    try:
        if by is None:
            delta = predictor.adapt(rows, config, key)
            delta.save(out, replace=replace)
            return {"deltas": [_described(delta, out)], "skipped": 0}
        with new_folder(out, replace=replace, mark=INDEX) as partial:
            made = _adapt_each(predictor, rows, by, config, partial, progress)
            (partial / INDEX).write_text(json.dumps({"base": predictor.bundle.fingerprint, "by": by, **made}, indent=1))
            return made
    except InputError as error:
        raise InputError(f"{support}: {error}") from None


def _adapt_each(
    predictor: Predictor, rows: pa.Table, by: str, config: Adapting | None, folder: Path, progress: Progress
) -> dict[str, Any]:
    made, skipped, values = [], 0, pc.count_distinct(key_texts(rows, by)).as_py()
    for value, own in _parted(rows, by):
        try:
            delta = predictor.adapt(own, config, {by: value})
        except TooFewRowsError:
            skipped += 1
        else:
            path = folder / _file_name(by, value)
            delta.save(path)
            made.append(_described(delta, path))
        progress("adapt", len(made) + skipped, values, "values")
    if not made:
        raise InputError(f"no value of {by!r} has 2 rows with labels, so there is nothing to adapt to; give more rows")
    return {"deltas": made, "skipped": skipped}


def _parted(rows: pa.Table, by: str) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each known value."""
    texts = key_texts(rows, by)
    chosen = rows.filter(pc.is_valid(texts)).combine_chunks()  # each `take` joins what there are
    encoded = pa.chunked_array(texts.drop_null()).combine_chunks().dictionary_encode()
    codes = encoded.indices.to_numpy()
    order, ends = np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes, minlength=len(encoded.dictionary)))
    for value, own in zip(encoded.dictionary.to_pylist(), np.split(order, ends)[:-1], strict=True):
        yield value, chosen.take(own)


def _file_name(column: str, value: str) -> str:
    """A value may hold slashes, and be longer than a name."""
    name = quote(f"{column}={value}", safe="= ")
    if len(name) > 200:
        name = f"{name[:150]}-{hashlib.sha256(value.encode()).hexdigest()[:16]}"
    return name + SUFFIX


def _described(delta: Delta, path: Path) -> dict[str, Any]:
    return {
        "file": path.name,
        "key": delta.key,
        "rows": delta.rows,
        "dropped": delta.dropped,
        "positives": delta.positives,
        "steps": delta.steps,
        "held_out_loss": {"before": delta.losses[0], "after": delta.held_out_loss},
        "new_ids": {name: len(values) for name, values in delta.new_ids.items()},
        "statistics": {name: len(own.codes) for name, own in delta.statistics.items()},
        "bytes": path.stat().st_size,
        "reason": delta.reason,
    }
