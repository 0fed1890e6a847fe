"""`funnelcast.prepare` of rows in memory: the table of a file of them, and what is wrong with them in words."""

from __future__ import annotations

import csv
import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import funnelcast
from funnelcast.data.table import Table
from funnelcast.errors import DataError, QuarantineError
from funnelcast.schema.dataset import Schema

FEATURES: dict[str, Any] = {
    "user": "categorical",
    "city": "categorical",
    "code": {"min_count": 2},
    "price": "numeric",
    "is_new": "categorical",
    "seen": "sequence",
    "tags": {"kind": "multi", "separator": "|"},
}


def schema(**settings: Any) -> Schema:
    said = {"funnel": "click; conversion after click", "features": FEATURES, "keep": ["time", "day", "clock"]}
    return Schema.from_dict(said | {"split": {"by": "time", "column": "time", "dev": 0.1, "test": 0.2}} | settings)


def frame(rows: int = 400) -> pd.DataFrame:
    """Columns of every kind that pandas has for a log, in an order of its own, beside one that no schema reads."""
    rng = np.random.default_rng(0)
    missing, click = rng.random(rows) < 0.1, rng.random(rows) < 0.4
    seconds = pd.to_timedelta(np.arange(rows) * 977, unit="s")
    columns = {
        "user": pd.Series(rng.integers(0, 30, rows), dtype="Int64").mask(missing),
        "city": pd.Categorical(rng.choice(["Ulm", "Köln", "Bonn"], rows), ["Köln", "Ulm", "Bonn", "none of them"]),
        "code": pd.Categorical(rng.integers(5, 90, rows)),
        "price": pd.Series(rng.random(rows), dtype="Float64").mask(missing),
        "is_new": pd.Series(rng.random(rows) < 0.5, dtype="boolean").mask(missing),
        "seen": [rng.integers(0, 9, n).tolist() for n in rng.integers(0, 4, rows)],
        "tags": pd.array(rng.choice(["a|b", "b", "", "c|a|a"], rows), "string"),
        "time": pd.Timestamp("2024-03-01", tz="Europe/Berlin") + seconds,
        "day": [datetime.date(2024, 3, 1 + row % 28) for row in range(rows)],
        "clock": [datetime.time(row % 24, 5) for row in range(rows)],
        "click": click,
        "conversion": (click & (rng.random(rows) < 0.3)).astype(np.int8),
        "note": [object() for _ in range(rows)],
    }
    return pd.DataFrame(columns).sample(frac=1, random_state=1)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def same_tables(tmp_path: Path, declared: Schema, as_rows: dict[str, Any], as_files: dict[str, Any]) -> None:
    funnelcast.prepare(declared, tmp_path / "rows", **as_rows)
    manifest = funnelcast.prepare(declared, tmp_path / "files", **as_files)
    assert all(manifest["rows"].get(part) for part in ("train", "test"))
    assert content(tmp_path / "rows") == content(tmp_path / "files")


@pytest.mark.slow
def test_a_data_frame_gives_the_table_of_its_parquet_file(tmp_path: Path) -> None:
    log = frame().drop(columns="note")
    log.to_parquet(tmp_path / "log.parquet")
    same_tables(tmp_path, schema(), {"train": log}, {"train": tmp_path / "log.parquet"})
    assert Table.open(tmp_path / "rows").rows("dev") == 40


@pytest.mark.slow
def test_parts_of_their_own(tmp_path: Path) -> None:
    log = frame().drop(columns="note")
    parts = {"train": log[:250], "dev": log[250:300], "test": log[300:]}
    for name, rows in parts.items():
        rows.to_parquet(tmp_path / f"{name}.parquet")
    files = {name: tmp_path / f"{name}.parquet" for name in parts}
    same_tables(tmp_path, schema(), parts, files)
    arrow = {name: pa.Table.from_pandas(rows) for name, rows in parts.items()}
    mixed = funnelcast.prepare(schema(), tmp_path / "mixed", train=arrow["train"], dev=files["dev"], test=arrow["test"])
    assert mixed == Table.open(tmp_path / "rows").manifest


def test_a_dict_of_columns_and_a_record_batch(tmp_path: Path) -> None:
    columns = {"user": [1, 2, None, 1] * 9, "click": [0, 1, 1, 0] * 9}
    declared = Schema.from_dict({"funnel": "click", "features": {"user": {}}})
    one = funnelcast.prepare(declared, tmp_path / "a", train=columns)
    assert one == funnelcast.prepare(declared, tmp_path / "b", train=pa.record_batch(columns))


def test_columns_that_no_schema_reads_may_hold_anything(tmp_path: Path) -> None:
    assert funnelcast.prepare(schema(), tmp_path / "t", train=frame())["rows"]["train"] == 280


def test_bad_rows_are_listed_by_part_and_number(tmp_path: Path) -> None:
    columns = {"user": [1.0, 2.0, 2.5, 4.0], "click": [0, 1, 1, 5]}
    declared = Schema.from_dict({"funnel": "click", "features": {"user": {}}, "split": {"dev": 0, "test": 0}})
    with pytest.raises(QuarantineError, match="2 of 6 rows are bad"):
        funnelcast.prepare(
            declared,
            tmp_path / "t",
            train=pd.DataFrame(columns, index=[9, 8, 7, 7]),
            test={"user": [1, 2], "click": 0 * [1] + [0, 1]},
        )
    with (tmp_path / "t.quarantine.csv").open() as file:
        listed = [(row["file"], row["line"]) for row in csv.DictReader(file)]
    assert listed == [("train", "3"), ("train", "4")]


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        (
            [1, 2],
            "train: cannot read a list; give a DataFrame, an Arrow table or a dict of columns",
        ),
        (pd.Series([1]), "train: cannot read a Series"),
        (
            pd.DataFrame([[1, 0, 2]], columns=["user", "click", "user"]),
            "train: the rows have two columns 'user'; rename",
        ),
        (pa.table([[1], [0], [2]], ["user", "click", "user"]), "train: the rows have two columns 'user'; rename one"),
        ({"user": [1, "a"], "click": [0, 1]}, "train: the rows cannot be read as columns of one type each"),
        ({"users": [1], "click": [0]}, "train lacks 1 of 2 columns:\n  feature 'user' reads the column 'user'"),
        (
            {"user": [1], "User": [1], "click": [0]},
            "train has the columns 'user' and 'User', which differ in case only",
        ),
        ({"user": [1], "click": ["yes"]}, "train does not fit the schema:\n  the label of step 'click'"),
        ({"user": [], "click": []}, "train leaves no train rows"),
    ],
)
def test_what_is_wrong_is_said(train: Any, expected: str, tmp_path: Path) -> None:
    declared = Schema.from_dict({"funnel": "click", "features": {"user": {}}, "split": {"dev": 0, "test": 0}})
    with pytest.raises(DataError) as raised:
        funnelcast.prepare(declared, tmp_path / "t", train=train)
    assert str(raised.value).startswith(expected)
    assert not (tmp_path / "t").exists()


def test_one_table_for_two_parts(tmp_path: Path) -> None:
    rows = pd.DataFrame({"user": [1, 2], "click": [0, 1]})
    with pytest.raises(DataError, match="is given for both train and test"):
        funnelcast.prepare(
            Schema.from_dict({"funnel": "click", "features": {"user": {}}}), tmp_path / "t", train=rows, test=rows
        )
