"""`funnelcast predict`: raw rows and tables give the same, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from harness.calls import call
from tests.cli.test_main import refused


def predicted(made: Path, rows: Path, out: Path) -> pa.Table:
    answer = call("predict", made / "run/bundle", rows, "--out", out, "--replace")
    assert answer.code == 0, answer
    return pq.read_table(out) if out.suffix == ".parquet" else pa.csv.read_csv(out)


@pytest.mark.parametrize("rows", ["log.parquet", "log.csv"])
@pytest.mark.parametrize("out", ["p.parquet", "p.csv"])
def test_raw_rows_are_predicted_as_those_of_the_table(made: Path, tmp_path: Path, rows: str, out: str) -> None:
    table = pq.read_table(made / "predictions.parquet")
    raw = predicted(made, made / rows, tmp_path / out)
    same = raw.filter(pa.compute.is_in(raw["row"], table["row"].combine_chunks())).sort_by("row")
    table = table.sort_by("row")
    assert same.column_names == table.column_names and len(raw) == 400
    for name in ("p_click", "p_buy", "p_buy_given_click"):
        np.testing.assert_allclose(same[name].to_numpy(), table[name].to_numpy(), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "log",
    [
        "row;age;user;campaign\n1;40;3;sale\n",
        "row\tage\tuser\tcampaign\n1\t40\t3\tsale\n",
        '\ufeffrow,age,user,campaign\r\n1,40,3,"sa,le"\r\n',
        "row,age,user,campaign\n1,40.0,3.0,sale\n",
    ],
    ids=["semicolons", "tabs", "quotes and mark", "whole floats"],
)
def test_csvs_are_read_as_prepare_reads_them(made: Path, tmp_path: Path, log: str) -> None:
    """Not only commas, and the words for missing and the whole floats that prepare knows."""
    (tmp_path / "rows.csv").write_text(log, newline="")
    columns = {"user": [3], "age": [40.0]}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    found, expected = (
        predicted(made, tmp_path / f"rows.{kind}", tmp_path / "p.parquet") for kind in ("csv", "parquet")
    )
    assert found["p_click"].equals(expected["p_click"])


def test_missing_unknown_and_true_in_a_csv(made: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("user,age\n,none\n99,NA\n3,true\n,\n007,Null\n")
    columns = {"user": [None, 99, 3, None, None], "age": [None, None, 1.0, None, None]}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    found, expected = (
        predicted(made, tmp_path / f"rows.{kind}", tmp_path / "p.parquet") for kind in ("csv", "parquet")
    )
    assert found["p_click"].equals(expected["p_click"])


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("user\n1\n", "lack 1 of the model's 2 columns: age"),
        ("usr,age\n1,2\n", "for 'user', did you mean 'usr'?"),
        ("user,age\n1,old\n", "'age'"),
        ("user,age\n1,2,3\n", "line 2"),
        ("user,user,age\n1,2,3\n", "names the column 'user' twice"),
        ("usr,AGE\n1,2\n", "for 'age', did you mean 'AGE'?"),
        ("7,0,0,b4,1\n8,0,0,b4,1\n", "has data such as '0' in its first line; it must name the columns; raw Ali-CCP"),
        ("7,1,0,b4,2\n8,0,0,b4,2\n", "raw Ali-CCP files are prepared first: funnelcast prepare ali-ccp, then"),
        ("", "is empty"),
    ],
)
def test_rows_that_do_not_fit(made: Path, tmp_path: Path, rows: str, said: str) -> None:
    (tmp_path / "rows.csv").write_text(rows)
    message = refused("predict", made / "run/bundle", tmp_path / "rows.csv", "--out", tmp_path / "p.csv")
    assert said in message and str(tmp_path / "rows.csv") in message
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_texts_among_integer_ids_are_told(made: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("user,age\n1,2\n2,NA\nguest,2\nNA,2\n3,2\n")
    arguments = ("predict", made / "run/bundle", tmp_path / "rows.csv", "--out", tmp_path / "p.csv")
    assert "user: 1 texts where the model knows integers, read as unknown" in call(*arguments).out
    assert '"user": 1' in call(*arguments, "--replace", "--json").out


def test_no_rows_give_no_predictions(made: Path, tmp_path: Path) -> None:
    """As in Python: a batch job that has nothing to score has not failed."""
    (tmp_path / "none.csv").write_text("user,age\n")
    pq.write_table(pq.read_table(made / "log.parquet").slice(0, 0), tmp_path / "none.parquet")
    for kind in ("csv", "parquet"):
        found = predicted(made, tmp_path / f"none.{kind}", tmp_path / "p.parquet")
        assert len(found) == 0 and found["p_click"].type == pa.float64()


def test_a_folder_whose_files_differ_in_order_and_type(made: Path, tmp_path: Path) -> None:
    """As `prepare` reads them; columns that the model does not know may be of any type."""
    (tmp_path / "rows").mkdir()
    first = pa.table({"user": [1], "age": [40], "row": [1], "more": [1]})
    second = pa.table({"age": [40.5], "other": ["x"], "row": [2], "user": pa.array([2], pa.int16()), "more": ["a"]})
    for name, table in (("a", first), ("b", second)):
        pq.write_table(table, tmp_path / "rows" / f"{name}.parquet")
    found = predicted(made, tmp_path / "rows", tmp_path / "p.parquet")
    pq.write_table(pa.table({"user": [1, 2], "age": [40, 40.5], "row": [1, 2]}), tmp_path / "one.parquet")
    assert found.equals(predicted(made, tmp_path / "one.parquet", tmp_path / "p.parquet"))

    def said(**columns: object) -> str:
        pq.write_table(pa.table(columns), tmp_path / "rows" / "b.parquet")
        return refused("predict", made / "run/bundle", tmp_path / "rows", "--out", tmp_path / "q.csv")

    message = said(user=["a"], age=[1], row=[3])
    assert "b.parquet does not fit a.parquet" in message and "user" in message and "cast the column" in message
    assert "b.parquet lacks 'row', which other files have" in said(user=[1], age=[1])
    assert "a.parquet lacks 'campaign', which other files have" in said(user=[1], age=[1], row=[3], campaign=["x"])


def test_types_that_do_not_fit(made: Path, tmp_path: Path) -> None:
    def said(**columns: object) -> str:
        pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
        return refused("predict", made / "run/bundle", tmp_path / "rows.parquet", "--out", tmp_path / "p.csv")

    assert "column 'user' holds string, but its vocabulary was made of integers" in said(user=["a"], age=[1.0])
    assert "column 'age' holds list" in said(user=[1], age=[[1.0]])
    assert "rows.parquet" in said(user=["a"], age=[1.0])


def test_outputs(made: Path, tmp_path: Path) -> None:
    arguments = ("predict", made / "run/bundle", made / "log.csv", "--out")
    assert "must end in .parquet or .csv" in refused(*arguments, tmp_path / "p.txt")
    (tmp_path / "dir.csv").mkdir()
    said = refused(*arguments, tmp_path / "dir.csv", "--replace")
    assert "dir.csv is a folder; name a file, such as" in said and "partial" not in said
    assert call(*arguments, tmp_path / "p.csv").code == 0
    assert "--replace" in refused(*arguments, tmp_path / "p.csv")
    assert call(*arguments, tmp_path / "p.csv", "--replace").code == 0


def test_progress_of_a_table_is_told_while_it_is_scored(made: Path, tmp_path: Path) -> None:
    answer = call("predict", made / "run/bundle", made / "table", "--out", tmp_path / "p.csv")
    rows = len(pq.read_table(made / "predictions.parquet"))
    assert answer.err.splitlines() == [f"predict: {rows:,} rows ", f"write: {rows:,} rows "]


def test_inputs(made: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "p.csv")
    assert "log.parqet does not exist; did you mean 'log.parquet'?" in refused(
        "predict", made / "run/bundle", made / "log.parqet", *out
    )
    assert "a run's bundle is RUN/bundle" in refused("predict", made / "run", made / "log.csv", *out)
    assert "'tset' is no part of a table; did you mean 'test'?" in refused(
        "predict", made / "run/bundle", made / "table", *out, "--part", "tset"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_precision_that_there_is_not(made: Path, tmp_path: Path) -> None:
    arguments = ("--out", tmp_path / "p.csv", "--precision", "half")
    message = refused("predict", made / "run/bundle", made / "log.csv", *arguments)
    assert "'half' is not known" in message and not list(tmp_path.iterdir())
