"""AliExpress in its published shape: every column's place, the dev searches, unknown ids, and what is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq
import pytest

import funnelcast
from funnelcast.data.datasets.aliexpress.prepare import (
    CATEGORICAL,
    COLUMNS,
    NUMERICAL,
    aliexpress_schema,
    prepare_aliexpress,
)
from funnelcast.data.table import Table
from funnelcast.errors import DataError
from tests.data.datasets.aliexpress.reference import SHARED, draw, write, write_pair

PUBLISHED = "search_id, categorical_1 to categorical_16, numerical_1 to numerical_63, click, conversion"
UNSEEN = 99  # an id of categorical_7 that only the test file has
BROKEN = 240  # the row of the training file whose conversion lacks its click


def with_values(rows: pa.Table, column: str, values: Any) -> pa.Table:
    return rows.set_column(rows.column_names.index(column), column, pa.array(values))


@pytest.fixture(scope="module")
def raw() -> dict[str, pa.Table]:
    """Both files; the last training row contradicts the funnel, the first two test rows have an id of their own."""
    train, test = draw(80, 0), draw(40, 1)
    last = train.slice(0, 1).to_pylist()[0] | {"search_id": 80, "click": 0, "conversion": 1}
    unseen = [UNSEEN, UNSEEN, *test["categorical_7"].to_pylist()[2:]]
    return {
        "train": pa.concat_tables([train, pa.Table.from_pylist([last], schema=train.schema)]),
        "test": with_values(test, "categorical_7", unseen),
    }


@pytest.fixture(scope="module")
def table(raw: dict[str, pa.Table], tmp_path_factory: pytest.TempPathFactory) -> Table:
    folder = tmp_path_factory.mktemp("aliexpress")
    train, test = (write(folder / f"{part}.csv", rows) for part, rows in raw.items())
    funnelcast.prepare_aliexpress(str(train), str(test), str(folder / "table"))
    return Table.open(folder / "table")


def in_dev(search: int) -> bool:
    return int(hashlib.md5(f"0:{search}".encode()).hexdigest()[:13], 16) < round(0.1 * 16**13)


def rows_of(raw: dict[str, pa.Table], part: str) -> pa.Table:
    """The raw rows of a part of the table, in order."""
    if part == "test":
        return raw["test"]
    rows = raw["train"].slice(0, BROKEN)
    return rows.filter(pa.array([in_dev(search) == (part == "dev") for search in rows["search_id"].to_pylist()]))


def test_the_protocol() -> None:
    schema = aliexpress_schema()
    assert len(COLUMNS) == 82 and list(schema.features) == list(COLUMNS[1:-2])
    kinds = [feature.kind for feature in schema.features.values()]
    assert kinds == ["categorical"] * 16 + ["numeric"] * 63
    assert all(feature.min_count == 1 for feature in schema.features.values() if feature.kind == "categorical")
    assert schema.name == "aliexpress" and schema.keep == ("search_id",) and schema.weight is None
    assert schema.funnel.label_columns == ("click", "conversion") and schema.funnel.edges == ((0, 1),)
    assert schema.funnel.on_broken == "drop"
    split = schema.split
    assert (split.by, split.column, split.dev, split.test, split.seed) == ("group", "search_id", 0.1, 0.0, 0)


@pytest.mark.parametrize("part", ["train", "dev", "test"])
def test_every_column_is_in_its_place(raw: dict[str, pa.Table], table: Table, part: str) -> None:
    rows, found = rows_of(raw, part), table.part(part)
    known = {name: sorted(set(rows_of(raw, "train")[name].to_pylist())) for name in CATEGORICAL}
    assert [name for name, _ in table.encoder.inputs.fields] == list(CATEGORICAL)
    for i, name in enumerate(CATEGORICAL):
        expected = [1 + known[name].index(id_) if id_ in known[name] else 0 for id_ in rows[name].to_pylist()]
        np.testing.assert_array_equal(found.ids[:, i], expected, name)
    assert table.encoder.inputs.numeric == NUMERICAL
    for i, name in enumerate(NUMERICAL):
        fitted = rows_of(raw, "train")[name].to_numpy()
        expected = (rows[name].to_numpy() - fitted.mean()) / fitted.std()
        np.testing.assert_allclose(found.numeric[:, i], expected, rtol=1e-5, atol=1e-6, err_msg=name)
    labels = np.stack([rows["click"].to_numpy(), rows["conversion"].to_numpy()], axis=1)
    np.testing.assert_array_equal(np.asarray(found.labels), labels)
    assert table.side(part)["search_id"].to_pylist() == rows["search_id"].to_pylist()


def test_dev_is_a_tenth_of_the_searches_of_the_training_file(table: Table) -> None:
    searches = {part: set(table.side(part)["search_id"].to_pylist()) for part in ("train", "dev")}
    assert not searches["train"] & searches["dev"]
    assert searches["train"] | searches["dev"] == set(range(80))
    assert len(searches["dev"]) / 80 == pytest.approx(0.1, abs=0.05)
    assert table.rows("train") + table.rows("dev") == 240 and table.rows("test") == 120


def test_an_id_of_the_test_file_alone_is_unknown(table: Table) -> None:
    found = table.part("test").ids[:, CATEGORICAL.index("categorical_7")]
    assert (found[:2] == 0).all() and not (table.part("train").ids == 0).any()
    assert UNSEEN not in table.encoder.vocabularies["categorical_7"].values.to_pylist()


def test_a_conversion_without_its_click_is_dropped_and_counted(table: Table) -> None:
    assert table.manifest["counts"]["rows read"] == 361 and table.manifest["counts"]["broken"] == 1
    assert 80 not in table.side("train")["search_id"].to_pylist() + table.side("dev")["search_id"].to_pylist()


@pytest.mark.slow
def test_an_index_beside_the_columns_and_ids_as_floats_change_nothing(
    raw: dict[str, pa.Table], table: Table, tmp_path: Path
) -> None:
    """Training rows as pandas writes them with its index and floats, test rows as Parquet in another order."""
    index = pa.array(range(len(raw["train"])))
    train = write(tmp_path / "train.csv", raw["train"].add_column(0, "", index), lambda id_: f"{id_}.0")
    test = raw["test"].select(COLUMNS[::-1]).add_column(0, "Unnamed: 0", pa.array(range(120)))
    floats = [pa.field(f.name, pa.float64() if f.name in CATEGORICAL else f.type) for f in test.schema]
    pq.write_table(test.cast(pa.schema(floats)), tmp_path / "test.parquet")
    found, expected = prepare_aliexpress(train, tmp_path / "test.parquet", tmp_path / "out"), table.manifest
    assert found["protocol"] == expected["protocol"] and found["counts"] == expected["counts"]
    assert found["files"].keys() == expected["files"].keys()
    differ = {name for name, file in found["files"].items() if file != expected["files"][name]}
    assert not differ - {"test/side.parquet"}  # a Parquet's own types are kept there


def test_the_generated_file_has_the_published_form(tmp_path: Path) -> None:
    train, _ = write_pair(tmp_path)
    head, first = train.read_text().splitlines()[:2]
    assert head.startswith("search_id,categorical_1,") and head.endswith(",numerical_63,click,conversion")
    assert first.count(",") == 81 and '"' not in first
    rows = pc_csv.read_csv(train)
    assert all(pa.types.is_integer(rows.schema.field(name).type) for name in ("search_id", *CATEGORICAL))
    assert not pc.any(pc.greater(rows["conversion"], rows["click"])).as_py()
    assert all(len(rows.group_by(["search_id", name]).aggregate([])) == 80 for name in SHARED)


def refused(train: Path, test: Path | None) -> str:
    with pytest.raises(DataError) as raised:
        prepare_aliexpress(train, test, train.with_name("out"))
    assert not train.with_name("out").exists()
    return str(raised.value)


def test_columns_that_are_missing_are_named_in_both_files(tmp_path: Path) -> None:
    train, test = draw(2, 0), draw(2, 1)
    lost = ["numerical_2", "categorical_3", "numerical_61", "numerical_62", "numerical_63", "click"]
    write(tmp_path / "train.csv", train.drop_columns(lost).append_column("Click", train["click"]))
    pq.write_table(test.drop_columns("search_id"), tmp_path / "test.parquet")
    first, second, third = refused(tmp_path / "train.csv", tmp_path / "test.parquet").splitlines()
    assert first == (
        f"{tmp_path / 'train.csv'} lacks 6 of the 82 columns of AliExpress: categorical_3, numerical_2, "
        "numerical_61 to numerical_63, click"
    )
    assert second == f"{tmp_path / 'test.parquet'} lacks 1 of the 82 columns of AliExpress: search_id"
    assert PUBLISHED in third and "in a header" in third and "data/preprocess.py of MTReclib" in third


def test_a_column_of_another_name_is_suggested(tmp_path: Path) -> None:
    train, test = write_pair(tmp_path, 2)
    train.write_text(train.read_text().replace("conversion", "Conversion"))
    assert "82 columns of AliExpress: conversion; for 'conversion', did you mean 'Conversion'?" in refused(train, test)


def test_a_file_without_its_header(tmp_path: Path) -> None:
    train, test = write_pair(tmp_path, 2)
    test.write_text(test.read_text().partition("\n")[2])
    said = refused(train, test)
    assert f"{test} has data such as '0' in its first line; it must name the columns" in said and PUBLISHED in said


def test_the_test_file_is_needed_and_is_not_the_training_file(tmp_path: Path) -> None:
    train, test = write_pair(tmp_path, 2)
    assert "give --test test.csv" in refused(train, None)
    assert "is given for both train and test" in refused(train, train)
    test.unlink()
    assert "test.csv does not exist" in refused(train, test)
