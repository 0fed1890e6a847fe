"""What the proofs work on: a small log with every kind of column, and what the command line makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from harness.calls import call

PLAIN: dict[str, Any] = {
    "name": "plain",
    "funnel": {"steps": "click; buy after click", "on_broken": "drop", "labels": {"buy": "bought"}},
    "features": {
        "user": {"kind": "categorical", "min_count": 1},
        "shop": {"kind": "categorical"},
        "age": {"kind": "numeric", "transform": "standard"},
        "price": {"kind": "numeric", "transform": "bins", "bins": 4},
    },
    "keep": ["row", "day"],
    "weight": "weight",
    "split": {"by": "random", "dev": 0.2, "test": 0.3, "seed": 0},
}
RICH: dict[str, Any] = {
    **PLAIN,
    "name": "rich",
    "features": {
        **PLAIN["features"],
        "tags": {"kind": "multi", "vocabulary": "words", "weights": "scores"},
        "seen": {"kind": "sequence", "vocabulary": "words", "max_length": 3},
    },
    "split": {"by": "time", "column": "day", "dev": 0.2, "test": 0.2},
}
EXPERIMENT: dict[str, Any] = {
    "name": "small",
    "seed": 0,
    "workers": 1,
    "keep_negatives": 0.9,
    "checkpoint_seconds": 60.0,
    "device": "auto",
    "model": {
        "name": "man", "experts_per_step": 1, "shared_experts": 1, "attention": "gated", "embedding_dim": 2,
        "embedding_dims": {"user": 3}, "embedding_init": "normal", "expert": [4], "tower": [4, 3],
        "tower_dropout": [0.1, 0.0], "head": "chain",
    },
    "loss": {"weighting": "uncertainty", "form": "paper", "normalise": True, "clamp": 4.0, "learning_rate": 0.01,
             "positive_weight": [1.0, 2.0], "focal_gamma": 0.5},
    "optimizer": {"name": "adam", "learning_rate": 0.01, "l2": 1e-6, "batch_size": 64, "micro_batch": 32, "clip": 1.0},
    "stages": [{"name": "one", "train": "all", "epochs": 1, "patience": 1, "metric": "auc_click"},
               {"name": "two", "train": ["gates", "towers"], "epochs": 1, "learning_rate": 0.001}],
}  # fmt: skip


@dataclass(frozen=True)
class Material:
    """`folder` holds log.parquet, log.csv, plain.toml, rich.toml, small.toml, table, run, predictions.parquet, raw."""

    folder: Path
    log: pa.Table
    predictions: pa.Table

    @classmethod
    def make(cls, folder: Path) -> Material:
        log = small_log()
        pq.write_table(log, folder / "log.parquet")
        flat = [name for name in log.column_names if not pa.types.is_list(log[name].type)]
        pa.csv.write_csv(log.select(flat), folder / "log.csv")
        for name, settings in (("plain", PLAIN), ("rich", RICH), ("small", EXPERIMENT)):
            (folder / f"{name}.toml").write_text(toml(settings))
        out = folder / "predictions.parquet"
        for arguments in (
            ("prepare", folder / "plain.toml", "--train", folder / "log.parquet", "--out", folder / "table"),
            ("train", folder / "small.toml", "--data", folder / "table", "--out", folder / "run"),
            ("predict", folder / "run/bundle", folder / "table", "--out", out),
            ("datasets", "generate", folder / "raw", "--rows", 1000),
        ):
            answer = call(*arguments)
            assert answer.code == 0, answer
        return cls(folder, log, pq.read_table(out))


def small_log(rows: int = 300, seed: int = 0) -> pa.Table:
    """Integers, strings, numbers, lists, a time, labels and weights."""
    rng = np.random.default_rng(seed)
    click = rng.random(rows) < 0.5
    lists = [list(rng.choice(["a", "b", "c", "d"], n)) for n in rng.integers(0, 4, rows)]
    columns: dict[str, Any] = {
        "row": np.arange(rows),
        "day": rng.integers(1, 30, rows),
        "user": rng.integers(0, 20, rows),
        "shop": rng.choice(["x", "y", "ü"], rows),
        "age": rng.normal(40, 10, rows),
        "price": rng.integers(1, 100, rows),
        "tags": pa.array(lists, pa.list_(pa.string())),
        "scores": pa.array([list(map(float, range(len(x)))) for x in lists], pa.list_(pa.float64())),
        "seen": pa.array(lists[::-1], pa.list_(pa.string())),
        "weight": rng.uniform(0.5, 2, rows),
        "click": click.astype(np.int8),
        "bought": (click & (rng.random(rows) < 0.5)).astype(np.int8),
    }
    return pa.table(columns)


def toml(settings: dict[str, Any]) -> str:
    """Top-level keys, one a line; what stands below them is inline."""
    return "".join(f"{_key(name)} = {_value(value)}\n" for name, value in settings.items() if value is not None)


def _key(name: str) -> str:
    return _value(str(name))


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items() if v is not None) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value) + '"'
    return str(value).lower() if isinstance(value, bool) else repr(value)
