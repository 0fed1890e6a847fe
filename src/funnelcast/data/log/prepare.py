"""Any log, Parquet, CSV or rows in memory, to a prepared table."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa

from funnelcast.data.encoder import Encoder
from funnelcast.data.files import new_folder
from funnelcast.data.log import roles, splits
from funnelcast.data.log.audit import check_parts, count_inconsistent, odd_texts, put_aside
from funnelcast.data.log.engine import Engine
from funnelcast.data.log.fit import fit_encoder
from funnelcast.data.log.sources import Source, open_source
from funnelcast.data.log.staging import Staged, stage
from funnelcast.data.log.text_types import text_types
from funnelcast.data.log.write import write_parts
from funnelcast.data.progress import Progress, silent
from funnelcast.data.quarantine import DEFAULT_LIMIT, Quarantine
from funnelcast.data.table import Table
from funnelcast.data.table_writer import TableWriter
from funnelcast.errors import DataError
from funnelcast.schema.dataset import Schema


def prepare(
    schema: Schema,
    out: Path,
    *,
    train: Path | pa.Table,
    dev: Path | pa.Table | None = None,
    test: Path | pa.Table | None = None,
    init: Encoder | None = None,
    max_bad: float = DEFAULT_LIMIT,
    replace: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write the table of a log, in files or in memory, to `out` and return its manifest.

    Rows become dev and test by `schema.split` where none are given for them. Fitting sees training rows only;
    `init`: of a bundle to retrain, whose scaling of numbers and ids are kept; new ids come after them. Bad rows are
    listed in `OUT.quarantine.csv`. Raises DataError, and QuarantineError above `max_bad` of the rows.
    """
    logs = {name: log for name, log in (("train", train), ("dev", dev), ("test", test)) if log is not None}
    _check_unique(logs)
    with (
        new_folder(out, replace=replace, mark="manifest.json") as folder,
        Quarantine(quarantine_path(out), max_bad) as quarantine,
        Engine(folder / "work") as engine,
        TableWriter(folder) as writer,
    ):
        staged = _stage(engine, schema, logs, progress)
        counts = put_aside(engine, staged, quarantine)
        counts["broken"] = count_inconsistent(engine, staged, schema.funnel)
        check_parts(engine, staged, schema)
        counts |= odd_texts(engine, staged, schema)
        encoder, sizes = fit_encoder(engine, staged[0], schema, progress, init)
        infinite = write_parts(staged, encoder, writer, progress)
        shutil.rmtree(engine.folder)
        writer.finish(encoder, counts | infinite | sizes)
    return Table.open(out).manifest


def quarantine_path(out: Path) -> Path:
    """Where the bad rows of a table are listed."""
    return out.with_name(out.name + ".quarantine.csv")


def _check_unique(logs: dict[str, Path | pa.Table]) -> None:
    """Raises DataError where the same rows are given for two parts."""
    first: dict[Path | int, str] = {}
    for part, log in logs.items():
        other = first.setdefault(id(log) if isinstance(log, pa.Table) else log.resolve(), part)
        if other != part:
            what = "one table of rows" if isinstance(log, pa.Table) else log
            raise DataError(
                f"{what} is given for both {other} and {part}; give each part rows of its own, or let [split] part them"
            )


def _stage(engine: Engine, schema: Schema, logs: dict[str, Path | pa.Table], progress: Progress) -> list[Staged]:
    """Open and stage every source, the training source first."""
    split = splits.remaining(schema.split, has_dev="dev" in logs, has_test="test" in logs)
    parts = {name: split if split and name == "train" else name for name in logs}
    uses = {name: list(roles.uses(schema, split=parts[name] is split)) for name in logs}
    sources: dict[str, Source] = {}
    for name, log in logs.items():
        progress("read", len(sources), len(logs), "sources", log.name if isinstance(log, Path) else name)
        sources[name] = open_source(engine, log, name, roles.columns(uses[name]), uses[name])
    types = text_types(engine, list(sources.values()), uses["train"])
    staged: list[Staged] = []
    for name, source in sources.items():
        progress("check", len(staged), len(logs), "sources", source.path.name)
        staged.append(stage(engine, source, schema, parts[name], types, uses[name]))
    return staged
