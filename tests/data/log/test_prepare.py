"""Preparing any log: what enters the table, what is fitted on what, what is put aside."""

from __future__ import annotations

import csv
import gzip
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funnelcast.data.labels import encode_labels, mend
from funnelcast.data.log.prepare import prepare, quarantine_path
from funnelcast.data.table import Table
from funnelcast.errors import DataError, QuarantineError
from funnelcast.schema.dataset import Schema

FUNNEL = "click; buy after click"


def schema(features: dict[str, Any], **settings: Any) -> Schema:
    return Schema.from_dict({"funnel": FUNNEL, "features": features, "split": {"dev": 0, "test": 0}, **settings})


def parquet(path: Path, columns: dict[str, Any], row_group: int = 1000) -> Path:
    n = max(len(values) for values in columns.values())
    columns = {"click": [0] * n, "buy": [0] * n, **columns}
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=row_group)
    return path


def text(path: Path, content: str) -> Path:
    path.write_bytes(gzip.compress(content.encode()) if path.name.endswith(".gz") else content.encode())
    return path


def listed(out: Path) -> list[tuple[str, str, str]]:
    """(file, line, reason) of every row in quarantine."""
    with quarantine_path(out).open(newline="", encoding="utf-8") as file:
        return [(row["file"], row["line"], row["reason"]) for row in csv.DictReader(file)]


def vocabulary(table: Table, name: str) -> list[Any]:
    found: list[Any] = table.encoder.vocabularies[name].values.to_pylist()
    return found


def labels(table: Table, part: str) -> list[list[int]]:
    found = table.part(part).labels
    assert found is not None
    return [list(map(int, row)) for row in found]


def test_a_small_log_by_hand(tmp_path: Path) -> None:
    log = parquet(
        tmp_path / "a.parquet",
        {
            "user": ["b", "a", None, "a"],
            "age": [1.0, 3.0, None, float("inf")],
            "tags": [[1, 2], None, [2], []],
            "click": [1, 1, 0, None],
            "buy": [1, 0, 0, None],
            "w": [1, 2, 0, 0.5],
            "t": [4, 3, 2, 1],
        },
    )
    features = {
        "user": {},
        "age": "numeric",
        "tags": "multi",
        "last": {"kind": "sequence", "column": "tags", "max_length": 1},
    }
    manifest = prepare(schema(features, weight="w", keep=["t"]), tmp_path / "out", train=log)
    table = Table.open(tmp_path / "out")
    train = table.part("train")
    assert manifest["rows"] == {"train": 4}
    sizes = {"vocabulary user": 3, "vocabulary tags": 3, "vocabulary last": 3}
    infinite = {"age: infinite numbers taken as missing": 1}
    assert manifest["counts"] == {"rows read": 4, "quarantined": 0, "broken": 0, **infinite, **sizes}
    assert train.ids.tolist() == [[2], [1], [0], [1]]
    assert train.numeric[:, 0].tolist() == [-1, 1, 0, 0]
    assert train.ragged["tags"].ids.tolist() == [1, 2, 2]
    assert train.ragged["last"].offsets.tolist() == [0, 1, 1, 2, 2]
    assert train.ragged["last"].ids.tolist() == [2, 2]
    assert labels(table, "train") == [[1, 1], [1, 0], [0, 0], [255, 255]]
    assert train.weight is not None and train.weight.tolist() == [1, 2, 0, 0.5]
    assert table.side("train").to_pydict() == {"t": [4, 3, 2, 1]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "out"]
    assert not (tmp_path / "out" / "work").exists()


@pytest.mark.slow
@pytest.mark.parametrize("row_group", [500, pytest.param(100_000, marks=pytest.mark.slow)])
def test_rows_stay_in_the_order_of_files_and_rows(tmp_path: Path, row_group: int) -> None:
    for i, start in enumerate((0, 150_000)):
        ids = np.arange(start, start + 150_000)
        parquet(tmp_path / "log" / f"{i}.parquet", {"user": ids % 7, "i": ids}, row_group)
    rule = {"by": "random", "dev": 0.2, "test": 0.2}
    prepare(schema({"user": {}}, keep=["i"], split=rule), tmp_path / "out", train=tmp_path / "log")
    table = Table.open(tmp_path / "out")
    sides = {part: table.side(part)["i"].to_numpy() for part in ("train", "dev", "test")}
    assert all((np.diff(side) > 0).all() for side in sides.values())
    assert sorted(np.concatenate(list(sides.values()))) == list(range(300_000))
    for part, side in sides.items():
        assert (table.part(part).ids[:, 0] == side % 7 + 1).all()


def test_fitting_sees_training_rows_alone(tmp_path: Path) -> None:
    """Values of dev, test, quarantined and dropped rows are in no vocabulary and move no number."""
    n = 400
    log: dict[str, Any] = {
        "user": np.arange(n),
        "x": np.arange(n, dtype=float),
        "t": np.arange(n),
        "click": [0] * n,
        "buy": [0] * n,
    }
    log["click"][5], log["buy"][7] = 9, 1
    rule = {"by": "time", "column": "t", "dev": 0.25, "test": 0.25}
    features = {"user": {}, "x": "numeric", "bin": {"kind": "numeric", "column": "x", "transform": "bins", "bins": 4}}
    path = parquet(tmp_path / "a.parquet", log)
    manifest = prepare(schema(features, split=rule), tmp_path / "out", train=path, max_bad=0.1)
    table = Table.open(tmp_path / "out")
    kept = [i for i in range(200) if i not in (5, 7)]
    assert manifest["rows"] == {"train": 198, "dev": 100, "test": 100}
    assert manifest["counts"]["broken"] == 1
    assert vocabulary(table, "user") == kept
    assert table.encoder.numbers["x"].mean == pytest.approx(np.mean(kept))  # type: ignore[union-attr]
    assert max(table.encoder.numbers["bin"].edges) < 200  # type: ignore[union-attr]
    assert not table.part("test").ids[:, 0].any()


def test_shared_vocabularies_count_all_their_columns(tmp_path: Path) -> None:
    log = parquet(tmp_path / "a.parquet", {"item": [1, 2, 3, 5], "seen": [[3], [3, 2], None, [4, None]]})
    features = {
        "item": {"vocabulary": "items", "min_count": 2},
        "seen": {"kind": "sequence", "vocabulary": "items", "min_count": 2},
        "again": {"column": "item", "vocabulary": "items", "min_count": 2},
    }
    prepare(schema(features), tmp_path / "out", train=log)
    assert vocabulary(Table.open(tmp_path / "out"), "items") == [2, 3]


def test_the_fingerprint_is_of_the_rows(tmp_path: Path) -> None:
    """Which part came from a file and which by the split, and what stands in it."""
    logs = [parquet(tmp_path / f"{i}.parquet", {"user": [i % 2] * 9, "t": range(9)}) for i in range(2)]
    log = parquet(tmp_path / "log.parquet", {"user": [1] * 9, "t": range(9)})
    found = schema({"user": {}}, split={"by": "time", "column": "t", "dev": 0.2, "test": 0.2})

    def fingerprint(test: Path | None) -> str:
        prepare(found, tmp_path / "out", train=log, test=test, replace=True)
        return Table.open(tmp_path / "out").protocol["fingerprint"]

    assert len({fingerprint(test) for test in (None, logs[0], logs[1])}) == 3


def test_shared_vocabularies_hold_one_type(tmp_path: Path) -> None:
    log = parquet(tmp_path / "a.parquet", {"a": [1], "b": ["x"], "c": pa.nulls(1)})
    features = {name: {"vocabulary": "v"} for name in ("a", "b", "c")}
    with pytest.raises(
        DataError, match=r"'v' is shared by columns of integers and of strings: a \(integers\), b \(str"
    ):
        prepare(schema(features), tmp_path / "out", train=log)
    prepare(schema({"a": {"vocabulary": "v"}, "c": {"vocabulary": "v"}}), tmp_path / "out", train=log)


def test_ids_of_every_type(tmp_path: Path) -> None:
    log = parquet(
        tmp_path / "a.parquet",
        {
            "float": [2.0, None, float("nan")],
            "bool": [True, None, False],
            "small": pa.array([1, None, 2], pa.uint8()),
            "level": pa.array(["x", None, "y"]).dictionary_encode(),
            "null": pa.nulls(3),
            "lists": pa.array([[1.0], None, [2.0, None]]),
        },
    )
    features: dict[str, Any] = {name: {} for name in ("float", "bool", "small", "level", "null")}
    prepare(schema(features | {"lists": "multi"}), tmp_path / "out", train=log)
    train = Table.open(tmp_path / "out").part("train")
    assert train.ids.tolist() == [[1, 2, 1, 1, 0], [0, 0, 0, 0, 0], [0, 1, 2, 2, 0]]
    assert train.ragged["lists"].ids.tolist() == [1, 2, 0]


def test_given_files_are_the_parts(tmp_path: Path) -> None:
    paths = {
        name: parquet(tmp_path / f"{name}.parquet", {"user": [i, i]}) for i, name in enumerate(("train", "dev", "test"))
    }
    split = {"by": "group", "column": "not there", "dev": 0.4, "test": 0.4}
    train, dev, test = paths.values()
    prepare(schema({"user": {}}, split=split), tmp_path / "out", train=train, dev=dev, test=test)
    table = Table.open(tmp_path / "out")
    assert [table.rows(part) for part in ("train", "dev", "test")] == [2, 2, 2]
    assert vocabulary(table, "user") == [0]


CSV = '''user,age,code,city,click,buy,w,extra
7,1.5,007,NA,1,1,1,x
8,,5,"a,b",1,0,2,
,NA,6,"two
lines",0,0,0,
7,3,5,"say ""hi""",0,,1,
'''


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "delimiter", "newline", "mark"),
    [
        ("a.csv", ",", "\n", ""),
        ("a.CSV", ",", "\r\n", "\ufeff"),
        ("a.csv.gz", "\t", "\n", "\ufeff"),
        ("a.csv", ";", "\n", ""),
    ],
)
def test_csv(tmp_path: Path, name: str, delimiter: str, newline: str, mark: str) -> None:
    content = CSV.replace("a,b", "a-b").replace(",", delimiter).replace("\n", newline)
    log = text(tmp_path / name, mark + content)
    features = {"user": {}, "age": "numeric", "code": {}, "city": {}}
    prepare(schema(features, weight="w", keep=["extra", "user", "w"]), tmp_path / "out", train=log)
    table = Table.open(tmp_path / "out")
    assert vocabulary(table, "user") == [7, 8]
    assert vocabulary(table, "code") == ["007", "5", "6"]
    assert vocabulary(table, "city") == ["NA", "a-b", 'say "hi"', f"two{newline}lines"]
    assert table.part("train").numeric[:, 0].tolist() == [-1, 0, 0, 1]
    assert labels(table, "train") == [[1, 1], [1, 0], [0, 0], [0, 0]]
    side = {"extra": ["x", None, None, None], "user": [7, 8, None, 7], "w": [1, 2, 0, 1]}
    assert table.side("train").to_pydict() == side


def test_ids_of_csv_files_mean_the_same_in_each(tmp_path: Path) -> None:
    """Data frames write integers with a gap as 5.0; one odd value in a later file does not split the ids."""
    train = text(tmp_path / "train.csv", "click,buy,user,x\nTrue,False,5.0,1\nFalse,False,,2.5\n")
    test = text(tmp_path / "test.csv", "click,buy,user,x\n1,0,5,1e1\n")
    prepare(schema({"user": {}, "x": "numeric"}), tmp_path / "out", train=train, test=test)
    table = Table.open(tmp_path / "out")
    assert vocabulary(table, "user") == [5]
    assert table.part("test").ids.tolist() == [[1]]
    assert labels(table, "train") == [[1, 0], [0, 0]] and labels(table, "test") == [[1, 0]]


def test_bad_rows_of_a_csv_are_listed_by_line(tmp_path: Path) -> None:
    bad = [
        "7,0",
        "7,2,0,1,1",
        "7,0,0,x,1",
        "7,0,0,1",
        "7,0,0,1,",
        "7,0,0,1,-1",
        '7,0,0,"1"2,1',
        "7,0,0,1,inf",
        "7,0,0,1,1,1",
        "7,0,0,1,1e300",
    ]
    good = ["1,0,0,1,1"] * 40
    log = text(tmp_path / "a.csv", "\n".join(["user,click,buy,x,w", *good[:3], *bad, *good[3:]]) + "\n")
    out = tmp_path / "out"
    manifest = prepare(schema({"user": {}, "x": "numeric"}, weight="w"), out, train=log, max_bad=0.5)
    assert sorted(listed(out), key=lambda row: int(row[1])) == [
        ("a.csv", "5", "missing columns"),
        ("a.csv", "6", "click is neither 0 nor 1"),
        ("a.csv", "7", "x is not a number"),
        ("a.csv", "8", "missing columns"),
        ("a.csv", "9", "w is missing"),
        ("a.csv", "10", "w is negative or infinite"),
        ("a.csv", "11", "unquoted value"),
        ("a.csv", "12", "w is negative or infinite"),
        ("a.csv", "13", "too many columns"),
        ("a.csv", "14", "w is negative or infinite"),
    ]
    assert manifest["rows"] == {"train": 40}
    assert manifest["counts"]["rows read"] == 50 and manifest["counts"]["quarantined"] == 10
    assert manifest["counts"]["quarantined: missing columns"] == 2
    assert vocabulary(Table.open(out), "user") == [1]


def test_bad_rows_of_a_folder_are_listed_by_file_and_row(tmp_path: Path) -> None:
    features = {"user": {}, "tags": {"kind": "multi", "weights": "tw"}}
    good = {"user": [1.0] * 50, "tags": [[1]] * 50, "tw": [[1.0]] * 50, "t": [1] * 50}
    parquet(tmp_path / "log" / "a.parquet", good)
    bad = {
        "user": [1.0, 1.5, 1.0, 1.0],
        "tags": [[1], [1], [1], None],
        "tw": [[], [1.0], [1.0], None],
        "t": [1, 1, None, 1],
    }
    parquet(tmp_path / "log" / "b.parquet", bad)
    split = {"by": "time", "column": "t", "dev": 0, "test": 0.1}
    with pytest.raises(DataError, match="leaves no train rows"):
        prepare(schema(features, split=split), tmp_path / "out", train=tmp_path / "log", max_bad=0.5)
    assert listed(tmp_path / "out") == [
        ("b.parquet", "1", "tw differs in length from its ids"),
        ("b.parquet", "2", "user is no whole number: declare it numeric, or cast it to string"),
        ("b.parquet", "3", "t is missing"),
    ]


def test_too_many_bad_rows_stop_the_run_and_leave_their_list(tmp_path: Path) -> None:
    log = parquet(tmp_path / "a.parquet", {"user": range(100), "click": [2] + [0] * 99})
    with pytest.raises(QuarantineError, match="1 of 100 rows are bad"):
        prepare(schema({"user": {}}), tmp_path / "out", train=log)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "out.quarantine.csv"]
    assert "user=0, click=2, buy=0" in quarantine_path(tmp_path / "out").read_text()


@pytest.mark.parametrize(
    ("rule", "rows", "expected"),
    [("drop", 2, [[0, 0], [1, 1]]), ("imply", 3, [[0, 0], [1, 1], [1, 1]])],
)
def test_inconsistent_rows(tmp_path: Path, rule: str, rows: int, expected: list[list[int]]) -> None:
    log = parquet(tmp_path / "a.parquet", {"user": [1, 2, 3], "click": [0, 0, 1], "buy": [0, 1, 1]})
    funnel = {"steps": FUNNEL, "on_broken": rule}
    manifest = prepare(schema({"user": {}}, funnel=funnel), tmp_path / "out", train=log)
    table = Table.open(tmp_path / "out")
    assert (manifest["rows"]["train"], manifest["counts"]["broken"]) == (rows, 1)
    assert labels(table, "train") == expected
    assert vocabulary(table, "user") == ([1, 3] if rule == "drop" else [1, 2, 3])


def test_inconsistent_rows_where_none_may_be(tmp_path: Path) -> None:
    log = parquet(tmp_path / "a.parquet", {"user": [1, 2, 3], "click": [0, 0, 1], "buy": [0, 1, 1]})
    with pytest.raises(DataError, match=r"1 rows of .* contradict the funnel, the first is row 2 of a.parquet"):
        prepare(schema({"user": {}}, funnel={"steps": FUNNEL, "on_broken": "error"}), tmp_path / "out", train=log)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3) | st.none(), st.sampled_from("ab") | st.none(), st.floats(width=32) | st.none(),
                  st.lists(st.integers(0, 3) | st.none(), max_size=4) | st.none(), st.sampled_from([0, 1, None])),
        min_size=1, max_size=20,
    )
)  # fmt: skip
def test_encoding_raw_rows_equals_the_rows_of_the_table(rows: list[tuple[Any, ...]]) -> None:
    """Predicting on a log and on its table is the same."""
    kinds = {"i": pa.int64(), "s": pa.string(), "x": pa.float32(), "l": pa.list_(pa.int64()), "click": pa.int8()}
    columns = {name: pa.array([row[k] for row in rows], kind) for k, (name, kind) in enumerate(kinds.items())}
    features = {
        "i": {},
        "s": {},
        "x": {"kind": "numeric", "transform": "bins"},
        "y": {"kind": "numeric", "column": "i"},
    }
    found = schema({**features, "l": {"kind": "sequence", "max_length": 2}}, funnel="click")
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(pa.table(columns), Path(folder) / "a.parquet")
        prepare(found, Path(folder) / "out", train=Path(folder) / "a.parquet")
        table = Table.open(Path(folder) / "out")
        batch = pa.RecordBatch.from_pydict(columns)
        encoded, stored = table.encoder.encode(batch), table.part("train")
    assert np.array_equal(encoded.ids, stored.ids)
    assert np.array_equal(encoded.numeric, stored.numeric)
    assert np.array_equal(encoded.ragged["l"].ids, stored.ragged["l"].ids)
    assert np.array_equal(encoded.ragged["l"].offsets, stored.ragged["l"].offsets)
    assert stored.labels is not None and np.array_equal(
        mend(encode_labels(batch, found.funnel)[0], found.funnel)[0], stored.labels
    )


@pytest.mark.slow
def test_the_same_log_gives_the_same_table(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=100_000)
    log = parquet(tmp_path / "a.parquet", {"user": np.arange(100_000) % 997, "x": x, "t": -x}, 5000)
    rule = {"by": "time", "column": "t", "dev": 0.1, "test": 0.1}
    features = {"user": {}, "x": "numeric", "y": {"kind": "numeric", "column": "x", "transform": "bins"}}
    first = prepare(schema(features, split=rule, keep=["t"]), tmp_path / "out", train=log)
    assert prepare(schema(features, split=rule, keep=["t"]), tmp_path / "out", train=log, replace=True) == first


def test_progress_is_told_in_stages(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int, str]] = []
    log = parquet(tmp_path / "a.parquet", {"user": [1, 2]})
    prepare(
        schema({"user": {}}), tmp_path / "out", train=log,
        progress=lambda stage, done, total, unit, note="": calls.append((stage, done, total, unit)),
    )  # fmt: skip
    assert list(dict.fromkeys(stage for stage, *_ in calls)) == ["read", "check", "fit", "encode"]
    assert calls[-1] == ("encode", 2, 2, "rows")


@pytest.mark.slow
def test_lines_of_a_csv_read_in_parallel_keep_order_and_numbers(tmp_path: Path) -> None:
    n, bad, short = 3_000_000, {5, 1_500_000, 2_999_999}, {6, 2_000_000}
    with (tmp_path / "a.csv").open("w") as file:
        file.write("i,click,buy\n")
        file.writelines(f"{i}\n" if i in short else f"{i},{2 * (i in bad)},0\n" for i in range(n))
    prepare(schema({"i": {}}, keep=["i"]), tmp_path / "out", train=tmp_path / "a.csv")
    rows = Table.open(tmp_path / "out").side("train")["i"].to_numpy()
    assert (rows == np.delete(np.arange(n), sorted(bad | short))).all()
    assert {int(line) - 2 for _, line, _ in listed(tmp_path / "out")} == bad | short
