"""Calibrating a bundle: on dev rows that its training leaves aside, or on rows that a user gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from funnelcast.calibration.calibration import Calibration
from funnelcast.calibration.config import CalibrationConfig
from funnelcast.calibration.fit import fit_calibration, reach_of
from funnelcast.calibration.step_fit import LEAST
from funnelcast.calibration.step_map import StepMap
from funnelcast.data.columns import Columns
from funnelcast.data.files import check_free
from funnelcast.data.loader import seed_of
from funnelcast.data.progress import Progress, silent
from funnelcast.data.table import Table
from funnelcast.errors import ConfigError, InputError
from funnelcast.evaluation.score import score
from funnelcast.experiments.evaluate import require_same_ids
from funnelcast.experiments.file_rows import rows_with
from funnelcast.experiments.folds import split_keys
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.predictor import Predictor, bundle_of
from funnelcast.serving.support import read_support


class Labelled(NamedTuple):
    """Rows that calibrate."""

    rows: Columns
    source: dict[str, Any]
    """What they are."""
    keys: NDArray[Any] | None = None
    """(N,) by which the schema splits, as rows of one key are not independent."""


def left_aside(config: CalibrationConfig | None, table: Table, seed: int) -> tuple[Columns, Labelled | None]:
    """The dev rows that stop a training, and those that calibrate its model: none without a config, or where the first
    step has too few."""
    dev, first = table.part("dev"), table.schema.funnel.parents.index(-1)
    if config is None:
        return dev, None
    assert dev.labels is not None
    keys = split_keys(table, "dev", dev)
    aside = aside_of(len(dev) if keys is None else keys, config.share, seed)
    kept, used = (np.flatnonzero(where) for where in (~aside, aside))
    reached = [int((dev.labels[rows, first] == label).sum()) for rows in (kept, used) for label in (0, 1)]
    if min(reached) < LEAST:
        return dev, None
    own = None if keys is None else keys[used]
    return dev.take(kept), Labelled(dev.take(used), {"part": "dev", **table.protocol}, own)


def aside_of(rows: int | NDArray[Any], share: float, seed: int) -> NDArray[np.bool_]:
    """(N,) whether a dev row is left aside: a share of the rows at random, or all rows of a share of the keys (N,)."""
    if not isinstance(rows, int):
        unique, inverse = np.unique(rows, return_inverse=True)
        return aside_of(len(unique), share, seed)[inverse.reshape(-1)]
    order = np.random.default_rng(seed_of(seed, "calibration")).permutation(rows)
    return order < round(share * rows)


def with_calibration(bundle: Bundle, given: Labelled, by: str | None, seed: int) -> Bundle:
    """The bundle with maps that fit labelled rows, in the place of those that it has."""
    reach = reach_of(*score(bundle.model, given.rows, bundle.keep_negatives))
    parents, inputs = bundle.model.parents, bundle.encoder.inputs
    found = fit_calibration(reach, given.rows, parents, inputs, by, keys=given.keys, source=given.source, seed=seed)
    return replace(bundle, calibration=found)


def calibrate(
    bundle: Bundle | Predictor | Path | str,
    rows: Table | Path | str,
    out: Path | str | None = None,
    *,
    part: str = "test",
    by: str | None = None,
    replace: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Fit maps of a bundle's log odds to labelled rows, and write the bundle with them to `out`; by default in its own
    place, if it was given as a folder.

    `rows`: a file of raw rows with labels, Parquet or CSV, or a `part` (dev, test) of a prepared table with the ids of
    the bundle. They must be rows that training and stopping did not use. `by`: an id feature, for offsets by its
    values. Returns what every step got. Raises FunnelcastError.
    """
    source = bundle
    bundle = bundle_of(bundle)
    target = out if out is not None else source
    if not isinstance(target, (Path, str)):
        raise InputError("there is nowhere to write the bundle; give a folder as `out`")
    if out is not None and Path(out) != source:
        check_free(Path(out), replace=replace)
    if faults := CalibrationConfig(by=by).check(bundle.encoder.inputs, "by") if by is not None else []:
        raise ConfigError(faults, "calibrate")
    progress("read", 0, 0, "rows")
    given = _of_table(bundle, rows, part) if _is_table(rows) else _of_file(bundle, Path(str(rows)), target)
    count = len(given.rows)
    progress("calibrate", 0, count, "rows")
    found = with_calibration(bundle, given, by, int(bundle.experiment["seed"]))
    found.save(target, replace=True)
    progress("calibrate", count, count, "rows")
    assert found.calibration is not None
    return {"bundle": str(target), "rows": count, **described(found.calibration, found)}


def described(calibration: Calibration, bundle: Bundle) -> dict[str, Any]:
    """What every step got, by its name, and how many values of a field have offsets."""
    names, offsets = bundle.encoder.schema.funnel.names, calibration.offsets
    steps = {name: said_of(step) for name, step in zip(names, calibration.steps, strict=True)}
    return {"steps": steps, "offsets": None if offsets is None else {offsets.feature: len(offsets.ids)}}


def said_of(step: StepMap) -> dict[str, Any]:
    """The kind of a step's map, and what it brings."""
    return {"kind": step.kind, "gain": step.gain, "error": step.error}


def _is_table(rows: Table | Path | str) -> bool:
    return isinstance(rows, Table) or (Path(rows) / "manifest.json").is_file()


def _of_table(bundle: Bundle, rows: Table | Path | str, part: str) -> Labelled:
    table = rows if isinstance(rows, Table) else Table.open(rows)
    require_same_ids(bundle.encoder, table)
    if table.protocol == bundle.protocol and part != "test":
        use = "trained it" if part == "train" else "stopped its training"
        raise InputError(
            f"the {part} rows of {table.folder} {use}, so the bundle fits them better than new rows; calibrate on its "
            "test part or on newer rows, or train with [calibration], which leaves dev rows aside"
        )
    found = table.part(part)
    return Labelled(found, {"part": part, **table.protocol}, split_keys(table, part, found))


def _of_file(bundle: Bundle, path: Path, out: Path | str) -> Labelled:
    raw = pa.Table.from_batches(rows_with(path, bundle.encoder, Path(out), None))
    try:
        support = read_support(raw, bundle.encoder.schema)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    columns = bundle.encoder.encode(support.rows)
    rows = Columns(columns.ids, columns.numeric, columns.ragged, support.labels, support.weight)
    return Labelled(rows, {"file": path.name})
