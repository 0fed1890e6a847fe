"""Rows of every format, in files and folders, and predictions of every format: the same bits, whole or not there."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from funnelcast.errors import FunnelcastError
from funnelcast.experiments import prediction_files
from funnelcast.experiments.predict import predict_file
from funnelcast.experiments.prediction_files import MARK, Target, Writer, target_of
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.predictor import load
from tests import tiny
from tests.kill import kills
from tests.serving.test_bundle import bundle_of

P = ["p_click", "p_conversion", "p_conversion_given_click"]
ROWS = 500


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict") / "bundle"
    bundle_of().save(folder)
    return folder


def log(rows: int = ROWS, seed: int = 2) -> pa.Table:
    return tiny.draw_log(rows, seed)


def write(path: Path, rows: pa.Table) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        pa.csv.write_csv(rows, path)
    elif path.suffix == ".parquet":
        pq.write_table(rows, path, row_group_size=99)
    elif path.suffix == ".feather":
        pa.feather.write_feather(rows, path, compression="lz4")
    else:
        new = pa.ipc.new_file if path.suffix == ".arrow" else pa.ipc.new_stream
        with new(path, rows.schema) as writer:
            writer.write_table(rows, max_chunksize=77)
    return path


def read(path: Path) -> pa.Table:
    if path.is_dir():
        return pa.concat_tables([read(part) for part in sorted(path.iterdir()) if part.name != MARK])
    if path.suffix == ".csv":
        return pa.csv.read_csv(path)
    return pq.read_table(path) if path.suffix == ".parquet" else pa.feather.read_table(path)


def expected(bundle: Path, rows: pa.Table) -> pa.Table:
    found: pa.Table = load(bundle).predict(rows)
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


KINDS = ("parquet", "csv", "arrow", "arrows", "feather")


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_of_rows_has_the_same_bits(bundle: Path, tmp_path: Path, kind: str) -> None:
    rows = log()
    found = predict_file(bundle, write(tmp_path / f"rows.{kind}", rows), tmp_path / "out.parquet")
    assert found["rows"] == ROWS and found["columns"][-3:] == P
    assert read(tmp_path / "out.parquet").select(P).equals(expected(bundle, rows))


@pytest.mark.parametrize("kind", ["parquet", "csv", "arrow", "feather"])
def test_every_format_of_predictions_has_the_same_rows(bundle: Path, tmp_path: Path, kind: str) -> None:
    write(tmp_path / "rows.parquet", log())
    predict_file(bundle, tmp_path / "rows.parquet", tmp_path / "a.parquet")
    predict_file(bundle, tmp_path / "rows.parquet", tmp_path / f"out.{kind}")
    found, want = read(tmp_path / f"out.{kind}"), read(tmp_path / "a.parquet")
    assert found.column_names == want.column_names
    assert found.select(P).equals(want.select(P))  # a CSV has as many digits as that takes
    assert kind == "csv" or found.equals(want)


def test_the_format_may_be_set_apart_from_the_name(bundle: Path, tmp_path: Path) -> None:
    write(tmp_path / "rows.parquet", log())
    predict_file(bundle, tmp_path / "rows.parquet", tmp_path / "p.dat", file_format="arrow")
    assert len(pa.feather.read_table(tmp_path / "p.dat")) == ROWS


@pytest.mark.parametrize("kind", ["parquet", "csv", "arrow"])
def test_a_folder_of_files_is_read_in_the_order_of_their_paths(bundle: Path, tmp_path: Path, kind: str) -> None:
    rows = log()
    for name, start, end in (("b/0", 200, 499), ("a", 0, 200), ("c", 499, 500)):
        write(tmp_path / "rows" / f"{name}.{kind}", rows.slice(start, end - start))
    for other in ("_SUCCESS", ".hidden.parquet", "readme.txt", "_logs/x.parquet"):
        (tmp_path / "rows" / other).parent.mkdir(exist_ok=True)
        (tmp_path / "rows" / other).write_text("no rows")
    found = predict_file(bundle, tmp_path / "rows", tmp_path / "out.parquet")
    assert found["rows"] == ROWS
    assert read(tmp_path / "out.parquet").select(P).equals(expected(bundle, rows))


@pytest.mark.parametrize("kind", ["parquet", "csv", "arrow"])
def test_folders_named_by_a_value_are_columns(bundle: Path, tmp_path: Path, kind: str) -> None:
    """Texts, integers and numbers, as the model knows them, and nothing; kept columns by what they hold."""
    rows = log(4).drop_columns(["user", "item", "age", "campaign"])
    values = [("u1", 3, 33.5, 7), ("u 2/", 4, None, 8), (None, 5, 41.0, 9), ("u3", 77, 20.0, 10)]
    for i, (user, item, age, campaign) in enumerate(values):
        text = "__HIVE_DEFAULT_PARTITION__" if user is None else user.replace(" ", "%20").replace("/", "%2F")
        number = "__HIVE_DEFAULT_PARTITION__" if age is None else age
        folder = tmp_path / "rows" / f"day={i}/user={text}/item={item}" / f"age={number}" / f"campaign={campaign}"
        write(folder / f"0.{kind}", rows.slice(i, 1))
    for i, name in enumerate(("user", "item", "age", "campaign")):
        rows = rows.append_column(name, pa.array([each[i] for each in values]))
    predict_file(bundle, tmp_path / "rows", tmp_path / "out.parquet")
    found = read(tmp_path / "out.parquet")
    assert found.select(P).equals(expected(bundle, rows)) and found["campaign"].equals(rows["campaign"])


def test_a_column_in_the_files_counts_more_than_the_name_of_a_folder(bundle: Path, tmp_path: Path) -> None:
    write(tmp_path / "rows/item=3/0.parquet", rows := log())
    predict_file(bundle, tmp_path / "rows", tmp_path / "out.parquet")
    assert read(tmp_path / "out.parquet").select(P).equals(expected(bundle, rows))


@pytest.mark.parametrize("kind", ["parquet", "csv", "arrow"])
def test_a_folder_of_predictions(bundle: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_files, "PART_ROWS", 200)
    write(tmp_path / "rows.parquet", rows := log())
    predict_file(bundle, tmp_path / "rows.parquet", tmp_path / "out", file_format=kind)
    assert names(tmp_path / "out") == [MARK, *(f"part-0000{i}.{kind}" for i in range(3))]
    assert [len(read(tmp_path / "out" / f"part-0000{i}.{kind}")) for i in range(3)] == [200, 200, 100]
    assert read(tmp_path / "out").select(P).equals(expected(bundle, rows))
    mark = json.loads((tmp_path / "out" / MARK).read_text())
    assert mark == {"version": 1, "bundle": Bundle.load(bundle).fingerprint, "rows": ROWS}


@pytest.mark.parametrize(
    ("out", "file_format", "target"),
    [
        ("p.csv", None, ("csv", False)), ("p.feather", None, ("arrow", False)), ("p.PARQUET", None, ("parquet", False)),
        ("p", None, ("parquet", True)), ("p", "csv", ("csv", True)), ("p.csv/", None, ("csv", True)),
        ("2024.12/", None, ("parquet", True)), ("p.txt", "csv", ("csv", False)),
        ("-", None, ("csv", False)), ("-", "arrow", ("arrow", False)),
    ],
)  # fmt: skip
def test_targets(out: str, file_format: str | None, target: tuple[str, bool]) -> None:
    assert target_of(out, file_format) == Target(Path(out), *target)


@pytest.mark.parametrize(
    ("out", "file_format", "said"),
    [
        ("p.parqet", None, "must end in .parquet or .csv, .arrow or .feather, or in / for a folder; --format sets the "
         "format of a file with another ending; did you mean '.parquet'?"),
        ("p.csv", "parqet", "--format 'parqet' is not known; did you mean 'parquet'?"),
        ("p.csv", "arrow", "p.csv is named as csv, but --format is arrow"),
        ("-", "parquet", "give csv or arrow for -"),
    ],
)  # fmt: skip
def test_targets_that_are_none(out: str, file_format: str | None, said: str) -> None:
    with pytest.raises(FunnelcastError, match=re.escape(said)):
        target_of(out, file_format)


def test_parts_end_with_the_rows(tmp_path: Path) -> None:
    """A last file without rows is none, but no rows at all are one file with the columns."""
    for rows, files in ((4, 2), (5, 3), (0, 1)):
        (tmp_path / f"{rows}").mkdir()
        writer = Writer("csv", lambda part, rows=rows: tmp_path / f"{rows}/{part}", 2)  # type: ignore[misc]
        writer.write(pa.table({"a": pa.array(range(rows), pa.int64())}))
        writer.close()
        assert writer.rows == rows and names(tmp_path / f"{rows}") == [str(i) for i in range(files)]


def test_a_folder_is_replaced_where_it_holds_predictions(bundle: Path, tmp_path: Path) -> None:
    write(tmp_path / "rows.parquet", log())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(FunnelcastError, match="not empty and has no _predictions.json, so it is not replaced"):
        predict_file(bundle, tmp_path / "rows.parquet", tmp_path / "mine", replace=True)
    assert names(tmp_path / "mine") == ["notes.txt"]
    predict_file(bundle, tmp_path / "rows.parquet", tmp_path / "out", file_format="csv")
    with pytest.raises(FunnelcastError, match="exists already.*--replace"):
        predict_file(bundle, tmp_path / "rows.parquet", tmp_path / "out")
    predict_file(bundle, tmp_path / "rows.parquet", tmp_path / "out", replace=True)
    assert names(tmp_path / "out") == [MARK, "part-00000.parquet"]
    assert names(tmp_path) == ["mine", "out", "rows.parquet"]


@pytest.mark.parametrize(("rows", "out"), [("r.csv", "r.csv"), ("in", "in/p.csv"), ("in/r.csv", "in"), ("in", "in")])
def test_rows_and_predictions_in_each_other(bundle: Path, tmp_path: Path, rows: str, out: str) -> None:
    for name in ("r.csv", "in/r.csv"):
        write(tmp_path / name, log(5))
    (tmp_path / "in" / MARK).write_text("{}")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(FunnelcastError, match="are or hold each other; write to another place"):
        predict_file(bundle, tmp_path / rows, tmp_path / out, replace=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def cut(path: Path, share: float = 0.6) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def _add(name: str, change: Callable[[pa.Table], pa.Table] = lambda rows: rows) -> Callable[[Path], Any]:
    return lambda folder: write(folder / name, change(log(5)))


def _cut(name: str) -> Callable[[Path], Any]:
    return lambda folder: cut(write(folder / name, log(5)))


def _ragged(folder: Path) -> None:
    (folder / "b.csv").write_text((folder / "a.csv").read_text() + "1,2\n")


BAD: list[tuple[str, Callable[[Path], Any], str]] = [
    ("parquet", _cut("b.parquet"), r"b.parquet cannot be read"),
    ("arrow", _cut("b.arrow"), r"b.arrow cannot be read"),
    ("arrows", lambda folder: cut(write(folder / "b.arrows", log())), r"b.arrows cannot be read"),
    ("csv", _ragged, r"b.csv, line 7: .*; mend it, as every row is scored"),
    ("parquet", _add("b.parquet", lambda rows: rows.drop_columns("price")), "b.parquet lacks 'price', which other"),
    ("csv", _add("b.csv", lambda rows: rows.drop_columns("campaign")), "b.csv lacks 'campaign', which other"),
    ("csv", _add("0.csv", lambda rows: rows.drop_columns("campaign")), "0.csv lacks 'campaign', which other"),
    ("arrow", _add("b.arrow", lambda rows: rows.set_column(1, "item", pc.cast(rows["item"], pa.string()))),
     "b.arrow does not fit a.arrow: .*item.*; cast the column to one type"),
    ("parquet", _add("b.csv"), "holds a.parquet and b.csv; predict the files of one format at a time"),
    ("parquet", _add("day=1/b.parquet"), "only one is in a folder day=…"),
    ("parquet", lambda folder: (folder / "a.parquet").unlink(), "holds no rows: no file in it ends in .parquet"),
    ("arrow", lambda folder: (folder / "b.arrow").write_text("text"), "b.arrow is no Arrow file"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "spoil", "said"), BAD)
def test_bad_files_of_a_folder(bundle: Path, tmp_path: Path, kind: str, spoil: Any, said: str) -> None:
    spoil(write(tmp_path / f"rows/a.{kind}", log(5)).parent)
    with pytest.raises(FunnelcastError, match=said):
        predict_file(bundle, tmp_path / "rows", tmp_path / "out")
    assert names(tmp_path) == ["rows"]


def test_an_ending_that_is_none(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.arow").write_text("")
    with pytest.raises(FunnelcastError, match=r"none of the extensions .*; did you mean '.arrow'\?"):
        predict_file(bundle, tmp_path / "rows.arow", tmp_path / "out")


def test_types_of_later_rows(tmp_path: Path) -> None:
    """Of labels, which are mended where all are 0 or 1 and else copied."""
    writer = Writer("parquet", lambda part: tmp_path / "p")
    writer.write(pa.table({"click": pa.array([1], pa.uint8())}))
    writer.write(pa.table({"click": pa.array([2], pa.int64())}))
    with pytest.raises(FunnelcastError, match="do not fit the types of the first ones: .*; mend them"):
        writer.write(pa.table({"click": pa.array([-1], pa.int64())}))
    writer.close()
    assert pq.read_table(tmp_path / "p").to_pydict() == {"click": [1, 2]}


@pytest.mark.slow
@pytest.mark.parametrize("replace", [False, True])
def test_killed_before_any_operation_on_files(
    bundle: Path, tmp_path: Path, replace: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no folder, or the one of before; the next run makes it and clears up."""
    monkeypatch.setattr(prediction_files, "PART_ROWS", 200)
    write(tmp_path / "rows.parquet", rows := log())
    out, want = tmp_path / "out", expected(bundle, rows)

    def predict() -> None:
        predict_file(bundle, tmp_path / "rows.parquet", out, replace=True)

    before = predict if replace else lambda: shutil.rmtree(out, ignore_errors=True)
    killed = 0
    for _ in kills(before, predict):
        killed += 1
        assert not out.exists() or read(out).select(P).equals(want)
        predict()
        assert read(out).select(P).equals(want)
        assert {name for name in names(tmp_path) if name.startswith(".")} == set()
    assert killed > 5
