"""Prediction files: of raw rows and of a table, the same numbers; whole or not there."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from funnelcast.data.files import new_folder
from funnelcast.data.labels import mend
from funnelcast.data.log.engine import Engine
from funnelcast.data.log.prepare import prepare
from funnelcast.data.table import Table
from funnelcast.data.table_writer import TableWriter
from funnelcast.errors import FunnelcastError, InputError
from funnelcast.experiments.compare import compare
from funnelcast.experiments.evaluate import evaluate
from funnelcast.experiments.predict import first_rows, predict_file
from funnelcast.schema.dataset import Schema
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.predictor import load
from tests import tiny
from tests.data.log.test_prepare import schema as log_schema
from tests.data.log.test_text_lists import FEATURES, as_texts, draw, write
from tests.serving.test_bundle import bundle_of

COLUMNS = ["campaign", "weight", "click", "conversion", "p_click", "p_conversion", "p_conversion_given_click"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict") / "bundle"
    bundle_of().save(folder)
    return folder


def write_rows(path: Path, rows: int, seed: int = 2) -> pa.Table:
    log = tiny.draw_log(rows, seed)
    if path.suffix == ".csv":
        pa.csv.write_csv(log, path)
    else:
        pq.write_table(log, path, row_group_size=999)
    return log


@pytest.mark.parametrize("rows", [80, 66_000])
def test_raw_rows_the_table_and_the_predictor_agree_bit_by_bit(bundle: Path, tmp_path: Path, rows: int) -> None:
    """66,000 rows are more than one batch of a file, and cut by its row groups in other places than by the table."""
    log = write_rows(tmp_path / "rows.parquet", rows)
    table = tiny.write_table(tmp_path / "table", test=rows)
    of_file = predict_file(bundle, tmp_path / "rows.parquet", tmp_path / "a.parquet")
    of_table = predict_file(bundle, table.folder, tmp_path / "b.parquet")
    assert of_file == of_table == {"rows": rows, "columns": COLUMNS, "unknown_texts": {}}
    a, b = pq.read_table(tmp_path / "a.parquet"), pq.read_table(tmp_path / "b.parquet")
    expected = load(bundle).predict(log)
    for name in COLUMNS[4:]:
        assert a[name].equals(b[name]) and a[name].equals(expected[name])
    for name in COLUMNS[:2]:
        assert a[name].cast(pa.int64()) == b[name].cast(pa.int64()) == log[name].cast(pa.int64())


def test_csv_in_and_out(bundle: Path, tmp_path: Path) -> None:
    log = write_rows(tmp_path / "rows.csv", 50)
    predict_file(bundle, tmp_path / "rows.csv", tmp_path / "out.csv")
    found = pa.csv.read_csv(tmp_path / "out.csv")
    assert found.column_names == COLUMNS
    np.testing.assert_allclose(found["p_click"], load(bundle).predict(log)["p_click"], rtol=1e-12)  # printed digits


LISTS = {"name": "shared_bottom", "tower": [4], "tower_dropout": []}


@pytest.fixture(scope="module")
def with_lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle, the table that its encoder was fitted on, from a CSV, and those rows in each form."""
    folder = tmp_path_factory.mktemp("lists")
    log = draw(300)
    for name, rows in (("lists.parquet", log), ("texts.parquet", as_texts(log)), ("texts.csv", as_texts(log))):
        write(folder / name, rows)
    prepare(log_schema(FEATURES), folder / "table", train=folder / "texts.csv")
    bundle_of(encoder=Table.open(folder / "table").encoder, model=LISTS).save(folder / "bundle")
    return folder


def test_lists_and_texts_of_lists_agree_bit_by_bit(with_lists: Path, tmp_path: Path) -> None:
    """In the table, in files of each kind, and in Python; and so do the figures that are made of them."""
    predict_file(with_lists / "bundle", with_lists / "table", tmp_path / "table.parquet", part="train")
    expected = pq.read_table(tmp_path / "table.parquet")
    assert len(np.unique(expected["p_click"])) > 200
    for name in ("lists.parquet", "texts.parquet", "texts.csv"):
        found = predict_file(with_lists / "bundle", with_lists / name, tmp_path / f"of-{name}.parquet")
        assert found["unknown_texts"] == {}
        assert pq.read_table(tmp_path / f"of-{name}.parquet").equals(expected)
    for name in ("lists.parquet", "texts.parquet"):
        assert load(with_lists / "bundle").predict(pq.read_table(with_lists / name))["p_buy"].equals(expected["p_buy"])
    measured = evaluate(with_lists / "bundle", with_lists / "table", "train")["outputs"]["click"]["auc"]["estimate"]
    found = compare(tmp_path / "table.parquet", tmp_path / "of-texts.csv.parquet")
    assert found["click"]["a"] == found["click"]["b"] == pytest.approx(measured, abs=1e-9)


def test_texts_among_the_integers_of_lists_are_counted(with_lists: Path, tmp_path: Path) -> None:
    rows = "item,seen,tags,tw\n1,7|8|guest|NA||,,\n1,9|guest|08|1|1,t1|t2,1|2\n"
    (tmp_path / "rows.csv").write_text(rows)
    found = predict_file(with_lists / "bundle", tmp_path / "rows.csv", tmp_path / "a.parquet")
    assert found["unknown_texts"] == {"seen": 3}
    write(tmp_path / "rows.parquet", pa.csv.read_csv(tmp_path / "rows.csv"))
    predict_file(with_lists / "bundle", tmp_path / "rows.parquet", tmp_path / "b.parquet")
    assert pq.read_table(tmp_path / "a.parquet").equals(pq.read_table(tmp_path / "b.parquet"))


@pytest.mark.parametrize(
    ("row", "of_csv", "of_parquet"),
    [
        ("1,7,t1|t2,1|x", "weights of feature 'tags' needs numbers, but column 'tw' holds text such as 'x' in 1 of 2",
         "'tw' cannot be read as numbers: Failed to parse string: 'x'"),
        ("1,7,t1|t2,1", "row 0: 'tags' and its weights 'tw' differ in length",
         "row 0: 'tags' and its weights 'tw' differ in length"),
        ("1,7;8,t1,1|", "feature 'seen' needs integers, but column 'seen' holds text such as '7;8' in 1 of 1", ""),
    ],
)  # fmt: skip
def test_texts_that_are_no_lists(with_lists: Path, tmp_path: Path, row: str, of_csv: str, of_parquet: str) -> None:
    (tmp_path / "rows.csv").write_text(f"item,seen,tags,tw\n{row}\n")
    values = dict(zip(("seen", "tags", "tw"), ([value] for value in row.split(",")[1:]), strict=True))
    write(tmp_path / "rows.parquet", pa.table({"item": [1], **values}))
    for name, said in (("rows.csv", of_csv), ("rows.parquet", of_parquet)):
        if said:
            with pytest.raises(InputError, match=re.escape(said)):
                predict_file(with_lists / "bundle", tmp_path / name, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_texts_of_lists_that_nothing_is_said_to_part(with_lists: Path, tmp_path: Path) -> None:
    features = {name: {k: v for k, v in each.items() if k != "separator"} for name, each in FEATURES.items()}
    prepare(log_schema(features), tmp_path / "table", train=with_lists / "lists.parquet")
    bundle_of(encoder=Table.open(tmp_path / "table").encoder, model=LISTS).save(tmp_path / "bundle")
    for name, said in (("texts.csv", "the lists that 'seen' needs are text there"), ("texts.parquet", "holds text")):
        with pytest.raises(InputError, match=rf"{name}.* {said}.*separator = \"\|\""):
            predict_file(tmp_path / "bundle", with_lists / name, tmp_path / "out.parquet")


def test_a_csv_is_staged_beside_what_is_made_of_it(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, and not in the system's folder, the next run finds what a killed one left."""
    folders: list[Path] = []

    class Noted(Engine):
        def __init__(self, folder: Path) -> None:
            folders.append(folder)
            super().__init__(folder)

    monkeypatch.setattr("funnelcast.data.log.rows.Engine", Noted)
    write_rows(tmp_path / "rows.csv", 50)
    (tmp_path / ".out.csv.partial-work-4194304").mkdir()
    predict_file(bundle, tmp_path / "rows.csv", tmp_path / "out.csv")
    assert folders == [tmp_path / f".out.csv.partial-work-{os.getpid()}"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "rows.csv"]


def test_rows_without_labels_are_predicted_too(bundle: Path, tmp_path: Path) -> None:
    log = tiny.draw_log(20).drop_columns(["click", "conversion", "campaign", "weight"])
    pq.write_table(log, tmp_path / "rows.parquet")
    found = predict_file(bundle, tmp_path / "rows.parquet", tmp_path / "out.parquet")
    assert found["columns"] == COLUMNS[4:]


def test_labels_are_named_by_step_so_that_compare_finds_them(tmp_path: Path) -> None:
    """Whatever the log calls its columns, and where a label is kept as well."""
    funnel: dict[str, Any] = {"steps": "click; conversion after click", "labels": {"click": "clk", "conversion": "buy"}}
    schema = Schema.from_dict({**tiny.SCHEMA.model_dump(), "funnel": funnel, "keep": ["campaign", "clk"]})
    encoder = tiny.fitted_encoder(schema=schema)
    for seed in (0, 1):
        bundle_of(encoder=encoder, seed=seed).save(tmp_path / f"bundle{seed}")
    log = tiny.draw_log(200).rename_columns({"click": "clk", "conversion": "buy"})
    pq.write_table(log, tmp_path / "rows.parquet")
    for seed in (0, 1):
        predict_file(tmp_path / f"bundle{seed}", tmp_path / "rows.parquet", tmp_path / f"{seed}.parquet")
    assert pq.read_table(tmp_path / "0.parquet").column_names == ["campaign", "clk", *COLUMNS[1:]]
    found = compare(tmp_path / "0.parquet", tmp_path / "1.parquet")
    assert list(found) == ["click", "conversion", "conversion_given_click"]


def test_a_label_that_is_kept_stands_once(tmp_path: Path) -> None:
    schema = Schema.from_dict({**tiny.SCHEMA.model_dump(), "keep": ["click", "campaign"]})
    bundle_of(encoder=tiny.fitted_encoder(schema=schema)).save(tmp_path / "bundle")
    write_rows(tmp_path / "rows.parquet", 50)
    found = predict_file(tmp_path / "bundle", tmp_path / "rows.parquet", tmp_path / "out.parquet")
    assert found["columns"] == ["click", "campaign", "weight", *COLUMNS[3:]]


def test_compare_counts_rows_by_the_weight_that_evaluate_counts_them_by(tmp_path: Path) -> None:
    """Of a table, of raw rows and of a CSV alike, though a kept column is named like an output."""
    schema = Schema.from_dict({**tiny.SCHEMA.model_dump(), "keep": ["p_old"]})
    encoder = tiny.fitted_encoder(schema=schema)
    bundle_of(encoder=encoder).save(tmp_path / "bundle")
    log = tiny.draw_log(500, 2).append_column("p_old", pa.array([2.0] * 500))
    pq.write_table(log, tmp_path / "rows.parquet")
    pa.csv.write_csv(log, tmp_path / "rows.csv")
    rows = tiny.encoded(log, encoder)
    assert rows.labels is not None
    rows = replace(rows, labels=mend(rows.labels, schema.funnel)[0])
    with new_folder(tmp_path / "table") as folder, TableWriter(folder) as writer:
        writer.part("test").append(rows, log.select(["p_old"]))
        writer.finish(encoder, {})
    for name in ("rows.parquet", "rows.csv", "table"):
        predict_file(tmp_path / "bundle", tmp_path / name, tmp_path / f"of-{name}.parquet")
    measured = evaluate(Bundle.load(tmp_path / "bundle"), Table.open(tmp_path / "table"))["outputs"]
    for name in ("rows.parquet", "rows.csv"):
        found = compare(tmp_path / "of-table.parquet", tmp_path / f"of-{name}.parquet")
        for output, figures in measured.items():
            assert found[output]["a"] == pytest.approx(figures["auc"]["estimate"], abs=1e-9)
        assert list(found) == list(measured)


def test_labels_of_raw_rows_are_mended_as_those_of_a_table(bundle: Path, tmp_path: Path) -> None:
    """So that the two can be compared: no conversion without a click, though the log left it empty."""
    log = tiny.draw_log(3).drop_columns(["click", "conversion"])
    for name, values in (("click", [1, 0, None]), ("conversion", [None, None, 1])):
        log = log.append_column(name, pa.array(values, pa.int64()))
    pq.write_table(log, tmp_path / "rows.parquet")
    predict_file(bundle, tmp_path / "rows.parquet", tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    assert found["click"].to_pylist() == [1, 0, 1] and found["conversion"].to_pylist() == [None, 0, 1]


@pytest.mark.parametrize("column", ["user", "age", "campaign"])
def test_a_column_that_is_there_twice_is_told(bundle: Path, tmp_path: Path, column: str) -> None:
    log = tiny.draw_log(10)
    pq.write_table(log.append_column(column, log["item"]), tmp_path / "rows.parquet")
    with pytest.raises(InputError, match=f"rows.parquet has two columns '{column}'; rename one"):
        predict_file(bundle, tmp_path / "rows.parquet", tmp_path / "out.parquet")


def test_a_weight_too_large_for_a_table_is_infinite(bundle: Path, tmp_path: Path) -> None:
    log = tiny.draw_log(2)
    log = log.set_column(log.column_names.index("weight"), "weight", pa.array([1.0, 1e300]))
    pq.write_table(log, tmp_path / "rows.parquet")
    predict_file(bundle, tmp_path / "rows.parquet", tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["weight"].to_pylist() == [1.0, np.inf]


def test_an_existing_file_is_replaced_on_demand_only(bundle: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.parquet", 30)
    (tmp_path / "out.parquet").write_text("mine")
    with pytest.raises(FunnelcastError, match="exists already"):
        predict_file(bundle, tmp_path / "rows.parquet", tmp_path / "out.parquet")
    assert (tmp_path / "out.parquet").read_text() == "mine"
    predict_file(bundle, tmp_path / "rows.parquet", tmp_path / "out.parquet", replace=True)
    assert len(pq.read_table(tmp_path / "out.parquet")) == 30


def test_what_fails_leaves_nothing_behind(bundle: Path, tmp_path: Path) -> None:
    pq.write_table(tiny.draw_log(30).drop_columns(["user"]), tmp_path / "rows.parquet")
    with pytest.raises(InputError, match="user"):
        predict_file(bundle, tmp_path / "rows.parquet", tmp_path / "out.parquet")
    with pytest.raises(InputError, match=r"must end in .parquet or .csv"):
        predict_file(bundle, tmp_path / "rows.parquet", tmp_path / "out.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.parquet"]


def test_no_rows_are_predicted_as_none(bundle: Path, tmp_path: Path) -> None:
    pq.write_table(tiny.draw_log(30).slice(0, 0), tmp_path / "rows.parquet")
    found = predict_file(bundle, str(tmp_path / "rows.parquet"), str(tmp_path / "out.parquet"))
    assert found["rows"] == 0 and pq.read_table(tmp_path / "out.parquet").column_names == COLUMNS


def test_the_first_rows_of_a_table(bundle: Path, tmp_path: Path) -> None:
    table = tiny.write_table(tmp_path / "table")
    predict_file(bundle, table.folder, tmp_path / "all.parquet")
    assert first_rows(bundle, table.folder, 5).to_pylist() == pq.read_table(tmp_path / "all.parquet")[:5].to_pylist()
