"""Small clean logs for the doctor, and tables of logs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from funnelcast.data.encoder import Encoder
from funnelcast.data.files import new_folder
from funnelcast.data.labels import encode_labels
from funnelcast.data.log.prepare import prepare
from funnelcast.data.numeric import Bins, Standard
from funnelcast.data.table import Table
from funnelcast.data.table_writer import TableWriter
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.data_checks.doctor import doctor
from funnelcast.data_checks.finding import Finding
from funnelcast.schema.dataset import Schema

Log = dict[str, Any]
"""Columns by name."""
FEATURES: dict[str, Any] = {
    "user": {"min_count": 2},
    "item": "categorical",
    "hour": "categorical",
    "price": "numeric",
    "age": {"kind": "numeric", "transform": "bins", "bins": 8},
    "history": {"kind": "sequence", "vocabulary": "item_seen"},
    "tags": {"kind": "multi", "weights": "tag_weights"},
}


def draw(rows: int = 3000, seed: int = 0, click_rate: float = 0.2) -> Log:
    """Independent rows with users of few rows, missing values and lists; clicks go by user, item and price."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, 1 + rows // 4, rows), np.minimum(rng.zipf(1.4, rows), 200)
    price = np.round(rng.gamma(2.0, 10.0, rows), 2)
    logit = np.log(click_rate / (1 - click_rate)) + np.sin(7.0 * user) + np.cos(3.0 * item) - (price - 20) / 30
    click = rng.random(rows) < 1 / (1 + np.exp(-logit))
    tags = [rng.integers(0, 30, n).tolist() for n in rng.integers(0, 4, rows)]
    return {
        "user": user,
        "item": item,
        "hour": rng.integers(0, 24, rows),
        "price": np.where(rng.random(rows) < 0.1, np.nan, price),
        "age": rng.integers(18, 80, rows).astype(float),
        "history": [np.minimum(rng.zipf(1.4, n), 200).tolist() for n in rng.integers(0, 9, rows)],
        "tags": tags,
        "tag_weights": [[1.0] * len(own) for own in tags],
        "click": click.astype(np.int8),
        "conversion": (click & (rng.random(rows) < 0.3)).astype(np.int8),
    }


def take(log: Log, rows: NDArray[np.int64]) -> Log:
    """Those rows, in that order."""
    return {name: np.asarray(column)[rows] if isinstance(column, np.ndarray) else [column[row] for row in rows]
            for name, column in log.items()}  # fmt: skip


def declared(**schema: Any) -> Schema:
    """The schema of `draw`'s logs, with other settings."""
    said = {"funnel": "click; conversion after click", "features": FEATURES, "split": {"dev": 0.1, "test": 0.3}}
    return Schema.from_dict({**said, **schema})


def prepared(folder: Path, train: Log, test: Log | None = None, **schema: Any) -> Table:
    """The table of a log; without test rows of their own, those and dev rows are split off at random."""
    folder.mkdir(exist_ok=True)
    paths = {name: folder / f"{name}.parquet" for name, log in (("train", train), ("test", test)) if log is not None}
    for name, path in paths.items():
        pq.write_table(pa.table(train if name == "train" or test is None else test), path)
    prepare(declared(**schema), folder / "table", replace=True, train=paths["train"], test=paths.get("test"))
    return Table.open(folder / "table")


def written(folder: Path, parts: dict[str, Log], **schema: Any) -> Table:
    """The table of logs by part, without the engine that `prepare` needs: for many small tables."""
    said = declared(**schema)
    tables = {part: pa.table(log) for part, log in parts.items()}
    encoder = fit(said, tables["train"])
    with new_folder(folder / "table", replace=True) as partial, TableWriter(partial) as writer:
        for part, table in tables.items():
            rows = table.combine_chunks().to_batches()[0]
            labels, _ = encode_labels(rows, said.funnel)
            weight = table[said.weight].to_numpy().astype(np.float32) if said.weight else None
            columns = replace(encoder.encode(rows), labels=labels, weight=weight)
            writer.part(part).append(columns, table.select(said.keep))
        writer.finish(encoder, {})
    return Table.open(folder / "table")


def fit(schema: Schema, train: pa.Table) -> Encoder:
    """As `prepare` does, for features that share no vocabulary."""
    vocabularies: dict[str, Vocabulary] = {}
    numbers: dict[str, Standard | Bins] = {}
    for name, feature in schema.features.items():
        column = train[schema.column(name)].combine_chunks()
        if feature.kind == "numeric":
            known = np.asarray(column.drop_null().to_numpy()[~np.isnan(column.drop_null().to_numpy())])
            numbers[name] = Standard(mean=known.mean(), std=known.std() or 1.0)
            if feature.transform == "bins":
                inner = np.quantile(known, np.linspace(0, 1, feature.bins + 1)[1:-1])
                numbers[name] = Bins(edges=tuple(np.unique(inner)))
            continue
        values = (column if feature.kind == "categorical" else column.flatten()).value_counts()
        vocabularies[schema.vocabulary(name)] = Vocabulary.fit(
            values.field("values"), values.field("counts").to_numpy(), feature.min_count
        )
    return Encoder(schema, vocabularies, numbers)


def parted(log: Log, seed: int) -> dict[str, Log]:
    """Six tenths of the rows for train, a tenth for dev, the rest for test, each in the log's order."""
    rows = len(log["click"])
    place = np.random.default_rng(seed).random(rows)
    parts = {"train": place < 0.6, "dev": (place >= 0.6) & (place < 0.7), "test": place >= 0.7}
    return {part: take(log, np.flatnonzero(mask)) for part, mask in parts.items()}


def findings(table: Table) -> list[Finding]:
    """What the doctor says of a table, the gravest first."""
    return list(doctor(table).findings)


def findings_of(table: Table) -> list[tuple[str, str, str]]:
    """Severity, check and subject of each finding."""
    return [(each.severity, each.check, each.subject) for each in findings(table)]
