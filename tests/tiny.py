"""A tiny log with every kind of input a model reads, its prepared table, and an experiment that trains in a moment."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from funnelcast.data.columns import UNOBSERVED, Columns
from funnelcast.data.encoder import Encoder
from funnelcast.data.files import new_folder
from funnelcast.data.numeric import Bins, Standard
from funnelcast.data.table import Table
from funnelcast.data.table_writer import TableWriter
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.experiments.experiment import Experiment
from funnelcast.schema.dataset import Schema

USERS, ITEMS = 12, 20
SCHEMA = Schema.from_dict(
    {
        "name": "tiny",
        "funnel": "click; conversion after click",
        "features": {
            "user": "categorical",
            "item": "categorical",
            "last": {"kind": "categorical", "vocabulary": "item"},
            "price": "numeric",
            "age": {"kind": "numeric", "transform": "bins", "bins": 4},
        },
        "weight": "weight",
        "keep": ["campaign"],
    }
)


def draw_log(rows: int, seed: int = 0) -> pa.Table:
    """Raw rows whose labels follow user and item; some ids are unknown, some values missing, some labels unobserved."""
    rng = np.random.default_rng(seed)
    user, item, last = rng.integers(0, USERS + 2, rows), rng.integers(0, ITEMS + 2, rows), rng.integers(0, ITEMS, rows)
    price, age = rng.normal(10, 3, rows), rng.uniform(18, 80, rows)
    click = rng.random(rows) < 1 / (1 + np.exp(0.5 - np.sin(2.5 * user) - np.cos(item) * (price - 10) / 3))
    conversion = click & (rng.random(rows) < 1 / (1 + np.exp(-2 * np.cos(3 * item))))
    return pa.table(
        {
            "user": pa.array([f"u{i}" for i in user], mask=rng.random(rows) < 0.05),
            "item": item,
            "last": last,
            "price": pa.array(price, mask=rng.random(rows) < 0.05),
            "age": age,
            "campaign": user % 3,
            "weight": rng.integers(0, 4, rows).astype(np.float32),
            "click": pa.array(click.astype(np.int8), mask=rng.random(rows) < 0.03),
            "conversion": pa.array(conversion.astype(np.int8), mask=rng.random(rows) < 0.06),
        }
    )


def fitted_encoder(users: int = USERS, schema: Schema = SCHEMA) -> Encoder:
    """As if fitted; every user beyond `users` and item beyond `ITEMS` is unknown."""
    vocabularies = {
        "user": Vocabulary(pa.array([f"u{i}" for i in range(users)])),
        "item": Vocabulary(pa.array(range(ITEMS))),
    }
    return Encoder(schema, vocabularies, {"price": Standard(mean=10, std=3), "age": Bins(edges=(30, 45, 60))})


def encoded(log: pa.Table, encoder: Encoder) -> Columns:
    """The rows with labels and weights."""
    rows = encoder.encode(log.combine_chunks().to_batches()[0])
    steps = [pc.fill_null(log[name].cast(pa.uint8()), UNOBSERVED).to_numpy() for name in encoder.schema.funnel.names]
    return Columns(rows.ids, rows.numeric, labels=np.stack(steps, 1), weight=log["weight"].to_numpy().copy())


def write_table(
    folder: Path, train: int = 160, dev: int = 80, test: int = 80, seed: int = 0, encoder: Encoder | None = None
) -> Table:
    """The prepared table of `draw_log`, each part with a seed of its own."""
    encoder = encoder or fitted_encoder()
    with new_folder(folder) as partial, TableWriter(partial) as writer:
        for part, (name, rows) in enumerate({"train": train, "dev": dev, "test": test}.items()):
            if not rows:
                continue
            log = draw_log(rows, 10 * seed + part)
            writer.part(name).append(encoded(log, encoder), log.select(["campaign"]))
        writer.finish(encoder, {})
    return Table.open(folder)


LEARNED: dict[str, Any] = {"weighting": "uncertainty", "normalise": True}
MODEL: dict[str, Any] = {
    "name": "man",
    "embedding_dim": 2,
    "embedding_dims": {"item": 3},
    "expert": [8, 4],
    "experts_per_step": 1,
    "shared_experts": 1,
    "tower": [6, 3],
    "tower_dropout": [0.1, 0.2],
}


def experiment(**changes: Any) -> Experiment:
    """Two stages over three batches an epoch; `changes` replace top-level settings."""
    settings = {
        "name": "tiny",
        "workers": 1,
        "model": MODEL,
        "loss": LEARNED,
        "optimizer": {"batch_size": 64, "micro_batch": 24, "learning_rate": 0.01},
        "stages": [{"epochs": 2, "patience": 2}, {"name": "top", "train": "top", "epochs": 1}],
    }
    return Experiment.from_dict(settings | changes)
