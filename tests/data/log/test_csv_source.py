"""Numbers of a CSV: read at once where they are numbers, as text where they are not, to the same table."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from funnelcast.data.log import csv_source
from funnelcast.data.log.csv_source import read_header, stage_csv
from funnelcast.data.log.prepare import prepare, quarantine_path
from funnelcast.data.table import Table
from tests.data.log.test_prepare import listed, schema, text

NUMBERS = [
    "5", " 5", "5 ", "\t5", "+5", "-5", "007", "-0", ".5", "5.", "-.5e-3", "5.e3", "1e5", "1E+05", "1_000", "1e400",
    "-1e400", "1e-400", "inf", "-Infinity", "nan", "-nan", "", "0.1000000000000000055511151231257827",
    "123456789012345678901234567890", "9007199254740993", "2.2250738585072011e-308",
]  # fmt: skip
NO_NUMBERS = ["NA", "null", "true", "x", "0x10", "1d", "1,5", "--1", "1e", " ", "１", "1'000"]
X: dict[str, Any] = {"x": {"kind": "numeric"}}
BINS: dict[str, Any] = {"x": {"kind": "numeric", "transform": "bins", "bins": 8}}


def csv(path: Path, values: list[str], label: str = "0") -> Path:
    return text(path, "x;click;buy\n" + "".join(f"{value};{label};0\n" for value in values))


def staged(path: Path, folder: Path) -> tuple[pa.Table, list[str]]:
    """What is staged as numbers apart, and the columns that are staged as text."""
    found = stage_csv(path, read_header(path, gzipped=False), ["x", "click"], folder, "a", ["x"], ["x"], {})
    texts = pq.read_table(found.texts)
    assert all(kind == pa.string() for kind in texts.schema.types)
    return found.numbers and pa.ipc.open_stream(found.numbers.read_bytes()).read_all(), texts.column_names


def numeric(log: Path, out: Path, features: dict[str, Any], **settings: Any) -> tuple[Table, dict[str, Any]]:
    manifest = prepare(schema(features, **settings), out, train=log, max_bad=0.9, replace=True)
    return Table.open(out), manifest["counts"]


def test_numbers_lie_apart_and_texts_do_not(tmp_path: Path) -> None:
    numbers, texts = staged(csv(tmp_path / "a.csv", [*map(str, range(3000)), ""]), tmp_path)
    assert texts == ["click"]
    assert numbers.to_pydict() == {"x": [*map(float, range(3000)), None]}
    for at in (5, 2000):  # within what is looked at first, and behind it
        values = [*map(str, range(3000))]
        values[at] = "x"
        assert staged(csv(tmp_path / "a.csv", values), tmp_path) == (None, ["x", "click"])


@pytest.mark.slow
@pytest.mark.parametrize("features", [X, pytest.param(BINS, marks=pytest.mark.slow)])
def test_numbers_read_at_once_are_those_that_texts_are_read_as(tmp_path: Path, features: dict[str, Any]) -> None:
    """A kept column is staged as text, a feature alone as numbers, unless texts are among them."""
    for values in (NUMBERS, NUMBERS + NO_NUMBERS):
        log = csv(tmp_path / "a.csv", values)
        once, counts = numeric(log, tmp_path / "once", features)
        other, others = numeric(log, tmp_path / "text", features, keep=["x"])
        assert counts == others
        assert once.encoder.numbers == other.encoder.numbers
        assert np.array_equal(once.part("train").numeric, other.part("train").numeric)
        assert np.array_equal(once.part("train").ids, other.part("train").ids)


@pytest.mark.parametrize("late", [10, 2500])
def test_a_text_among_numbers_is_one_bad_row_and_a_word_for_missing_none(tmp_path: Path, late: int) -> None:
    values = [str(i / 8) for i in range(3000)]
    values[late], values[late + 1], values[late + 2] = "what", "NA", "true"
    table, counts = numeric(csv(tmp_path / "a.csv", values), tmp_path / "out", X)
    assert listed(tmp_path / "out") == [("a.csv", str(late + 2), "x is not a number")]
    assert '"x=what, ' in quarantine_path(tmp_path / "out").read_text()
    assert counts["quarantined"] == 1
    expected = np.array([float(v) if v != "true" else 1.0 for v in values if v not in ("what", "NA")])
    assert table.encoder.numbers["x"].mean == pytest.approx(expected.mean())  # type: ignore[union-attr]
    assert table.part("train").numeric[late, 0] == 0


def test_texts_of_a_later_file_are_bad_rows_of_it(tmp_path: Path) -> None:
    """Most of that file, not most of the log."""
    train, test = csv(tmp_path / "a.csv", [str(i) for i in range(50)]), csv(tmp_path / "b.csv", ["x", "y", "1"])
    manifest = prepare(schema(X), tmp_path / "out", train=train, test=test, max_bad=0.5)
    assert manifest["rows"] == {"train": 50, "test": 1}
    assert manifest["counts"]["quarantined: x is not a number"] == 2


def test_no_bad_line_is_lost_where_there_are_more_than_are_recorded_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_source, "_MOST_ERRORS", 5)
    monkeypatch.setattr(csv_source, "_FIRST_LINES", 9)
    lines = [f"{i};0;0" for i in range(40)]
    lines[20:30], lines[35] = [f"{i};0" for i in range(20, 30)], "x;0;0"
    log = text(tmp_path / "a.csv", "\n".join(["x;click;buy", *lines]) + "\n")
    table, _ = numeric(log, tmp_path / "out", X)
    expected = [("a.csv", str(i), "missing columns") for i in range(22, 32)]
    assert listed(tmp_path / "out") == [*expected, ("a.csv", "37", "x is not a number")]
    assert table.rows("train") == 29


def test_a_bad_row_is_listed_with_its_columns_in_the_order_of_the_schema(tmp_path: Path) -> None:
    log = text(tmp_path / "a.csv", "click,x,user,y,buy\n0,1.5,7,,0\n2,2.5,8,4,0\n")
    features = {"y": {"kind": "numeric"}, "user": {}, "x": {"kind": "numeric", "transform": "bins"}}
    prepare(schema(features), tmp_path / "out", train=log, max_bad=0.5)
    assert '"y=4.0, user=8, x=2.5, click=2, buy=0"' in quarantine_path(tmp_path / "out").read_text()


@pytest.mark.slow
def test_a_log_is_the_same_table_from_csv_and_parquet(tmp_path: Path) -> None:
    """More rows than a batch, with gaps, infinite numbers and bad rows in two batches; test rows of another file."""
    rng = np.random.default_rng(0)
    n = 150_000

    def draw() -> pa.Table:
        x = rng.random((3, n)).round(6)
        x[0, [5, 7, n - 7]] = math.inf
        click = rng.integers(0, 2, n)
        click[[5, n - 5]] = 3
        numbers = {f"x{i}": pa.array(column, mask=rng.random(n) < 0.1) for i, column in zip("abc", x, strict=True)}
        ids = {"user": rng.integers(0, 99, n), "t": rng.integers(0, 97, n)}
        return pa.table({**numbers, **ids, "click": click, "buy": np.zeros(n, int)})

    logs = {"train": draw(), "test": draw()}
    features: dict[str, Any] = {name: {"kind": "numeric"} for name in ("xa", "xb", "xc")}
    features |= {"user": {}, "binned": {"kind": "numeric", "column": "xb", "transform": "bins"}}
    found = schema(features, split={"by": "group", "column": "t", "dev": 0.2, "test": 0}, keep=["t"])
    made = []
    for kind in ("csv", "parquet"):
        paths = {part: tmp_path / f"{part}.{kind}" for part in logs}
        for part, log in logs.items():
            pa.csv.write_csv(log, paths[part]) if kind == "csv" else pq.write_table(log, paths[part])
        made.append(prepare(found, tmp_path / kind, train=paths["train"], test=paths["test"], max_bad=0.1))
    assert made[0]["protocol"] == made[1]["protocol"]
    assert made[0]["counts"] == made[1]["counts"]
    assert made[0]["counts"]["xa: infinite numbers taken as missing"] == 4
    assert made[0]["counts"]["quarantined: click is neither 0 nor 1"] == 4
