"""Every way an input can be unusable: told with the file, the column and the fix, never with the engine's traceback."""

from __future__ import annotations

import datetime
import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from funnelcast.data.log.csv_source import Rejected
from funnelcast.data.log.prepare import prepare, quarantine_path
from funnelcast.data.log.sources import Source, find_files
from funnelcast.data.table import Table
from funnelcast.errors import DataError, FunnelcastError
from funnelcast.schema.dataset import Schema

CSV = b"user,click\n1,0\n"
GOOD: dict[str, Any] = {"user": [1, 2], "click": [0, 1], "x": ["a", "b"], "n": [1, 2], "l": [[1], [2]], "w": [1.0, 1.0]}
GOOD |= {"t": [datetime.time(1), datetime.time(2)], "d": [datetime.date(2024, 1, 1)] * 2}


def schema(features: dict[str, Any] | None = None, **settings: Any) -> Schema:
    found = {"funnel": "click", "features": features or {"user": {}}, "split": {"dev": 0, "test": 0}}
    return Schema.from_dict({**found, **settings})


def fault(tmp_path: Path, found: Schema, **paths: Path) -> str:
    """What preparing says; nothing but the input and the list of bad rows is left behind."""
    before = {path.name for path in tmp_path.iterdir()}
    train = paths.pop("train", tmp_path / "good.parquet")
    with pytest.raises(DataError) as raised:
        prepare(found, tmp_path / "out", train=train, dev=paths.get("dev"), test=paths.get("test"))
    assert {path.name for path in tmp_path.iterdir()} - before <= {quarantine_path(tmp_path / "out").name}
    assert "ibis" not in str(raised.value) and raised.value.__cause__ is None
    return str(raised.value)


@pytest.fixture(autouse=True)
def _good(tmp_path: Path) -> None:
    pq.write_table(pa.table(GOOD), tmp_path / "good.parquet")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", b"", "a.csv is empty"),
        ("a.parquet", b"", "a.parquet is empty"),
        ("a.txt", CSV, "has none of the extensions .parquet, .csv, .csv.gz"),
        ("a.csv", gzip.compress(CSV, mtime=0), "is gzip-compressed; name it a.csv.gz"),
        ("a.csv.gz", CSV, "is not gzip-compressed; name it a.csv"),
        ("a.csv.gz", gzip.compress(CSV * 9999, mtime=0)[:-20], "a.csv.gz cannot be read"),
        ("a.parquet", CSV, "is no Parquet file"),
        ("a.parquet", b"PAR1" + bytes(50) + b"PAR1", "a.parquet cannot be read"),
        ("a.csv", b"\n1,2\n", "has an empty first line; it must name the columns"),
        ("a.csv", b"user,user,click\n1,1,0\n", "names the column 'user' twice"),
        ("a.csv", b"7,0\n1,1\n", "a.csv lacks 2 of 2 columns"),
        ("a.csv", b"7,0,0\n1,1,0\n", "a.csv has data such as '0' in its first line; it must name the columns"),
        ("a.csv", b"us\xffer,click\n1,0\n", "is not UTF-8 text"),
        ("a.csv", b"user,clikc\n1,0\n", "the label of step 'click' reads the column 'click', which is not there; "
                                        "did you mean 'clikc'?"),
        ("a.csv", b"1,0\n1,0\n", "lacks 2 of 2 columns"),
        ("a.csv", b"user,click\n", "leaves no train rows"),
        ("a.csv", b"user,click\n1,yes\n2,no\n", "the label of step 'click': column 'click' holds text such as 'no', "
                                               "but numbers are needed; write it as 0, 1 or nothing"),
        ("a.csv", b"user,click\n\xff,0\n1,0\n", "more than the limit of 0.0001: 1 × invalid encoding, not UTF-8"),
    ],
)  # fmt: skip
def test_files(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert expected in fault(tmp_path, schema(), train=tmp_path / name)


def test_files_of_other_parts(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"user,click\n")
    assert "a.csv leaves no dev rows" in fault(tmp_path, schema(), dev=tmp_path / "a.csv")
    assert "a.txt does not exist" in fault(tmp_path, schema(), test=tmp_path / "a.txt")


def test_a_column_that_is_there_twice(tmp_path: Path) -> None:
    """Also one that the schema does not read: nobody knows which of them was meant."""
    for name in ("user", "x"):
        table = pa.table(GOOD)
        pq.write_table(table.append_column(name, table["n"]), tmp_path / "a.parquet")
        assert f"a.parquet has two columns {name!r}; rename one" in fault(
            tmp_path, schema(), train=tmp_path / "a.parquet"
        )


def test_paths(tmp_path: Path) -> None:
    assert "did you mean 'good.parquet'?" in fault(tmp_path, schema(), train=tmp_path / "god.parquet")
    assert "does not exist" in fault(tmp_path, schema(), dev=tmp_path / "none" / "x.csv")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.csv").write_bytes(CSV)
    assert "folder holds no .parquet file" in fault(tmp_path, schema(), train=tmp_path / "folder")


NUMERIC, MULTI, SEQUENCE = {"kind": "numeric"}, {"kind": "multi"}, {"kind": "sequence"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("features", "settings", "expected"),
    [
        ({"usr": {}, "n": {}}, {}, "lacks 1 of 3 columns:\n  feature 'usr' reads the column 'usr', which is not there; "
                                   "did you mean 'user'?"),
        ({"m": {**MULTI, "column": "l", "weights": "ll"}}, {}, "the weights of feature 'm' reads the column 'll'"),
        (None, {"funnel": {"steps": "click", "labels": {"click": "clik"}}}, "the label of step 'click' reads"),
        (None, {"weight": "ww"}, "the weight reads the column 'ww', which is not there"),
        (None, {"keep": ["tt"]}, "`keep` reads the column 'tt', which is not there"),
        (None, {"split": {"by": "group", "column": "grp"}}, "the split by group reads the column 'grp'"),
        ({"x": NUMERIC}, {}, "feature 'x': column 'x' holds text, but numbers are needed; declare it categorical"),
        ({"l": NUMERIC}, {}, "column 'l' holds lists, but numbers are needed"),
        ({"l": {}}, {}, "column 'l' holds lists, but a categorical feature has one id per row; declare it"),
        ({"user": MULTI}, {}, "column 'user' holds int64, but a list per row is needed; give lists, or texts"),
        ({"x": SEQUENCE}, {}, "column 'x' holds text, but a list per row is needed; give lists, or texts and what "
                             "parts them, as separator = \"|\", or declare it kind = 'categorical'"),
        ({"m": {**MULTI, "column": "l", "weights": "x"}}, {}, "column 'x' holds text, but a list of numbers per row is "
                             "needed; give lists, or texts and what parts them, as separator = \"|\""),
        ({"m": {**MULTI, "column": "l", "weights": "n"}}, {}, "column 'n' holds int64, but a list of numbers per row"),
        ({"d": {}}, {}, "column 'd' holds date, but ids are integers or strings; cast the column"),
        (None, {"funnel": {"steps": "click", "labels": {"click": "x"}}}, "column 'x' holds text, but a label is 0"),
        (None, {"weight": "x"}, "the weight: column 'x' holds text, but numbers are needed"),
        (None, {"split": {"by": "time", "column": "l"}}, "column 'l' holds lists, but a key or time to split by is"),
        (None, {"split": {"by": "time", "column": "x"}}, "2 × x is no time like 2024-02-01 10:00:00 or a number"),
        (None, {"split": {"dev": 0.99, "test": 0}}, "leaves no train rows"),
        (None, {"split": {"dev": 0, "test": 1e-9}}, "leaves no test rows (2 rows read); change the shares of [split]"),
    ],
)  # fmt: skip
def test_columns(tmp_path: Path, features: Any, settings: dict[str, Any], expected: str) -> None:
    assert expected in fault(tmp_path, schema(features, **settings))


def test_all_columns_at_fault_are_told_at_once(tmp_path: Path) -> None:
    message = fault(tmp_path, schema({"x": NUMERIC, "l": {}, "user": SEQUENCE}))
    assert message.count("column") >= 3 and message.count("\n") == 3


def test_a_list_in_a_csv(tmp_path: Path) -> None:
    """That nothing is said to part, whatever stands in it."""
    fix = 'give lists, or texts and what parts them, as separator = "|"'
    for cell in (b"1", b"1|2", b"a"):
        (tmp_path / "a.csv").write_bytes(CSV.replace(b"1", cell))
        said = fault(tmp_path, schema({"m": {**MULTI, "column": "user", "weights": "user"}}), train=tmp_path / "a.csv")
        assert f"but a list per row is needed; {fix}, or declare it" in said
        assert f"but a list of numbers per row is needed; {fix}" in said


def test_text_in_a_column_of_numbers_in_a_csv(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"user,click\nx,0\ny,1\n1,1\n")
    expected = "feature 'user': column 'user' holds text such as 'x', but numbers are needed; declare it categorical"
    assert expected in fault(tmp_path, schema({"user": NUMERIC}), train=tmp_path / "a.csv")


def test_files_that_differ_in_type(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user": ["a"], "click": [0]}), tmp_path / "test.parquet")
    message = fault(tmp_path, schema(), test=tmp_path / "test.parquet")
    assert "test.parquet differs from the training rows: column 'user' holds string" in message


@pytest.mark.parametrize("kind", ["categorical", "multi", "sequence"])
@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([2**63], pa.uint64()), "1 × user is 2^63 or more: cast it to string"),
        (
            pa.array([2.0**60]),
            "1 × user is a float of 9007199254740992 or more, where ids run together: cast it to int64",
        ),
        (pa.array([-(2.0**24)], pa.float32()), "1 × user is a float of 16777216 or more, where ids run together"),
        (pa.array([1.5]), "1 × user is no whole number: declare it numeric"),
    ],
    ids=["uint64", "float64", "float32", "fraction"],
)
def test_numbers_that_are_no_ids(tmp_path: Path, kind: str, column: pa.Array, expected: str) -> None:
    ids = column if kind == "categorical" else pa.array([column.to_pylist()], pa.list_(column.type))
    pq.write_table(pa.table({"user": ids, "click": [0]}), tmp_path / "a.parquet")
    assert expected in fault(tmp_path, schema({"user": {"kind": kind}}), train=tmp_path / "a.parquet")


@pytest.mark.parametrize("kind", [pa.float64(), pa.uint64()])
def test_large_numbers_that_are_ids(tmp_path: Path, kind: pa.DataType) -> None:
    largest = 2**53 - 1 if kind == pa.float64() else 2**63 - 1
    log = pa.table({"user": pa.array([largest, None], kind), "l": pa.array([[largest], None], pa.list_(kind))})
    pq.write_table(log.append_column("click", [[0, 1]]), tmp_path / "a.parquet")
    found = schema({"user": {}, "l": {"kind": "multi"}})
    assert prepare(found, tmp_path / "out", train=tmp_path / "a.parquet")["rows"] == {"train": 2}


def test_columns_that_differ_in_case(tmp_path: Path) -> None:
    pq.write_table(pa.table({**GOOD, "USER": [3, 4], "L": [5, 6], "l2": [7, 8]}), tmp_path / "a.parquet")
    said = fault(tmp_path, schema(), train=tmp_path / "a.parquet")
    assert "a.parquet has the columns 'user' and 'USER', which differ in case only; rename one" in said
    prepare(schema({"l2": {}}), tmp_path / "l2", train=tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_bytes(b"user,USER,click\n1,3,0\n2,4,1\n")
    assert "differ in case only" in fault(tmp_path, schema({"user": {}, "USER": {}}), train=tmp_path / "a.csv")
    prepare(schema({"USER": {}}), tmp_path / "csv", train=tmp_path / "a.csv")
    assert Table.open(tmp_path / "csv").encoder.vocabularies["USER"].values.to_pylist() == [3, 4]


def test_a_column_in_another_case_is_hinted_at(tmp_path: Path) -> None:
    assert "'USER', which is not there; did you mean 'user'?" in fault(tmp_path, schema({"USER": {}}))


def test_one_file_for_two_parts(tmp_path: Path) -> None:
    (tmp_path / "link.parquet").symlink_to(tmp_path / "good.parquet")
    for test in ("good", "link"):
        said = fault(tmp_path, schema(), test=tmp_path / f"{test}.parquet")
        assert f"{test}.parquet is given for both train and test; give each part rows of its own" in said


def test_ties_in_a_split_by_time(tmp_path: Path) -> None:
    split = {"by": "time", "column": "d", "dev": 0.3, "test": 0.3}
    said = fault(tmp_path, schema(split=split))
    assert "leaves no train rows" in said and "rows of one time stay together in the later part" in said


def test_what_is_not_a_table_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    for out in (tmp_path / "out", tmp_path / "good.parquet"):
        with pytest.raises(FunnelcastError, match="choose a"):
            prepare(schema(), out, train=tmp_path / "good.parquet", replace=True)
    assert (tmp_path / "out" / "thesis.txt").exists()


def test_a_table_is_replaced_when_told(tmp_path: Path) -> None:
    prepare(schema(), tmp_path / "out", train=tmp_path / "good.parquet")
    with pytest.raises(FunnelcastError, match="exists already"):
        prepare(schema(), tmp_path / "out", train=tmp_path / "good.parquet")
    prepare(schema(), tmp_path / "out", train=tmp_path / "good.parquet", replace=True)


def test_rows_are_found_again() -> None:
    folder = Source(Path("f"), (Path("a"), Path("b"), Path("c")), (0, 3, 3), 5, None)
    assert [folder.locate(row) for row in (0, 2, 3, 4)] == [
        (Path("a"), 1),
        (Path("a"), 3),
        (Path("c"), 1),
        (Path("c"), 2),
    ]
    rejected = tuple(Rejected(line, "", "") for line in (2, 4, 5))
    text = Source(Path("a.csv"), (Path("a.csv"),), (0,), 6, None, rejected, is_text=True)
    assert [text.locate(row)[1] for row in range(3)] == [3, 6, 7]


def test_files_are_read_in_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / f"{name}.parquet").write_bytes(b"PAR1")
    (tmp_path / "good.parquet").unlink()
    assert [file.stem for file in find_files(tmp_path)] == ["a", "b", "c"]
