"""A log with lists, weights and missing values, its prepared table, and the preset `recommended` in small."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from funnelcast.data.log.prepare import prepare
from funnelcast.data.table import Table
from funnelcast.experiments.experiment import Experiment, experiment_of
from funnelcast.schema.dataset import Schema
from tests import tiny

FEATURES: dict[str, Any] = {
    **tiny.SCHEMA.model_dump(mode="json")["features"],
    "tags": {"kind": "multi", "weights": "tag_weights"},
    "seen": {"kind": "sequence", "vocabulary": "item"},
}
SCHEMA = Schema.from_dict({**tiny.SCHEMA.model_dump(mode="json"), "features": FEATURES, "split": {"dev": 0}})
STATISTICS: dict[str, Any] = {"crosses": [["user", "item"], ["item", "price"]], "bins": 5, "folds": 4}


def draw_log(rows: int, seed: int = 0, campaigns: tuple[int, ...] = (0, 1, 2)) -> pa.Table:
    """As `tiny.draw_log`, of campaigns, with weighted lists and sequences, some of which are empty; the first step is
    known in every row."""
    rng, log = np.random.default_rng(seed + 100), tiny.draw_log(rows, seed)
    log = log.set_column(log.column_names.index("campaign"), "campaign", pa.array(rng.choice(campaigns, rows)))
    click = pc.coalesce(log["click"], log["conversion"], pa.scalar(0, pa.int8()))
    log = log.set_column(log.column_names.index("click"), "click", click)
    lengths = rng.integers(0, 4, (2, rows))
    tags, seen = ([rng.integers(0, 9, n).tolist() for n in own] for own in lengths)
    weights = [rng.choice([0.5, 1.0, 2.0], n).tolist() for n in lengths[0]]
    kinds = (pa.list_(pa.int64()), pa.list_(pa.float64()), pa.list_(pa.int64()))
    for name, values, kind in zip(("tags", "tag_weights", "seen"), (tags, weights, seen), kinds, strict=True):
        log = log.append_column(name, pa.array(values, kind))
    return log


def write_table(folder: Path, train: int = 400, dev: int = 120, test: int = 240, seed: int = 0) -> Table:
    """Its logs lie beside it; the test rows are of campaigns of their own."""
    folder.mkdir(parents=True)
    for part, (name, rows) in enumerate({"train": train, "dev": dev, "test": test}.items()):
        campaigns = (0, 1, 2) if name != "test" else (10, 11, 12, 13)
        pq.write_table(draw_log(rows, 10 * seed + part, campaigns), folder / f"{name}.parquet")
    logs = {name: folder / f"{name}.parquet" for name in ("train", "dev", "test")}
    prepare(SCHEMA, folder / "table", train=logs["train"], dev=logs["dev"], test=logs["test"])
    return Table.open(folder / "table")


def experiment(statistics: dict[str, Any] | None = None, **changes: Any) -> Experiment:
    """Two epochs of a few batches; `changes` replace top-level settings."""
    settings = experiment_of("recommended").model_dump(mode="json", exclude_unset=True)
    settings["model"] |= {
        "embedding_dim": 3,
        "expert": [8, 4],
        "tower": [4],
        "statistics": STATISTICS | (statistics or {}),
    }
    settings["stages"][0] |= {"epochs": 2, "patience": 2}
    return Experiment.from_dict(settings | {"workers": 1} | changes)
