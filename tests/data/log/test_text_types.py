"""What the texts of a CSV become: integers beside words for missing, and what is told where they do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from funnelcast.data.log.prepare import prepare
from funnelcast.data.table import Table
from tests.data.log.test_prepare import parquet, schema, text, vocabulary


@pytest.mark.slow
@pytest.mark.parametrize("word", ["", "NA", "n/a", "NaN", "null", "None"])
def test_words_for_missing_among_integers_are_missing(tmp_path: Path, word: str) -> None:
    log = text(tmp_path / "a.csv", f"user,k,click,buy\n5.0,1.5,{word},\n{word},{word},0,0\n7,2,1,0\n")
    prepare(schema({"user": {}}, keep=["user", "k"]), tmp_path / "out", train=log)
    table = Table.open(tmp_path / "out")
    assert vocabulary(table, "user") == [5, 7]
    assert table.side("train").to_pydict() == {"user": [5, None, 7], "k": [1.5, None, 2.0]}


def test_a_text_among_integers_is_told(tmp_path: Path) -> None:
    train = text(tmp_path / "a.csv", "user,code,zip,click,buy\n5,x,02139,0,0\n6,y,2139,0,0\nNA,1,NA,0,0\n7,z,1,0,0\n")
    test = text(tmp_path / "b.csv", "user,code,zip,click,buy\n5,x,1,0,0\nabc,x,1,0,0\n8,x,2,0,0\n")
    found = prepare(schema({"user": {}, "code": {}, "zip": {}}), tmp_path / "out", train=train, test=test)
    counts = {name: count for name, count in found["counts"].items() if "text" in name}
    assert counts == {
        "zip is text, not integers, for '02139' in line 2 of a.csv": 1,
        "user is text, not integers, for 'abc' in line 3 of b.csv": 1,
    }
    assert vocabulary(Table.open(tmp_path / "out"), "user") == ["5", "6", "7", "NA"]


@pytest.mark.slow
def test_an_empty_column_of_a_csv_has_no_type(tmp_path: Path) -> None:
    full, empty = (text(tmp_path / f"{i}.csv", f"user,click,buy\n{i},0,0\n") for i in ("7", ""))
    as_parquet = parquet(tmp_path / "a.parquet", {"user": [7]})
    for train, test, ids in ((as_parquet, empty, [[0]]), (empty, as_parquet, [[0]]), (empty, full, [[0]])):
        prepare(schema({"user": {}}), tmp_path / "out", train=train, test=test, replace=True)
        assert Table.open(tmp_path / "out").part("test").ids.tolist() == ids
