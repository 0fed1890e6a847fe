"""A small log with everything that can be made of it, made by the command line itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from harness.calls import call

SCHEMA = """
name = "tiny"
funnel = "click; buy after click"
keep = ["row", "campaign"]
split = {dev = 0.2, test = 0.3}
[features]
user = "categorical"
age = "numeric"
"""
EXPERIMENT = """
name = "tiny"
model = {name = "man", experts_per_step = 1, shared_experts = 1, expert = [4], tower = [4], tower_dropout = []}
stages = [{epochs = 2}]
optimizer = {batch_size = 64}
workers = 1
"""


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with log.parquet, log.csv, schema.toml, man.toml, table and run; nothing in it may be changed."""
    folder = tmp_path_factory.mktemp("made")
    write_log(folder)
    (folder / "schema.toml").write_text(SCHEMA)
    (folder / "man.toml").write_text(EXPERIMENT)
    for arguments in (
        ("prepare", folder / "schema.toml", "--train", folder / "log.parquet", "--out", folder / "table"),
        ("train", folder / "man.toml", "--data", folder / "table", "--out", folder / "run"),
        ("predict", folder / "run/bundle", folder / "table", "--out", folder / "predictions.parquet"),
    ):
        answer = call(*arguments)
        assert answer.code == 0, answer
    return folder


def write_log(folder: Path, rows: int = 400) -> None:
    """log.parquet and log.csv: the same rows."""
    rng = np.random.default_rng(0)
    click = rng.random(rows) < 0.4
    log = pa.table(
        {
            "row": np.arange(rows),
            "campaign": rng.choice(["spring", "sale"], rows),
            "user": rng.integers(0, 20, rows),
            "age": rng.normal(40, 10, rows),
            "click": click.astype(np.int8),
            "buy": (click & (rng.random(rows) < 0.4)).astype(np.int8),
        }
    )
    pq.write_table(log, folder / "log.parquet")
    pa.csv.write_csv(log, folder / "log.csv")


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest generated log in Ali-CCP's format; nothing in it may be changed."""
    folder = tmp_path_factory.mktemp("raw") / "log"
    answer = call("datasets", "generate", folder, "--rows", 1000)
    assert answer.code == 0, answer
    return folder
