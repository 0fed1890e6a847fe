"""`funnelcast prepare`: any log, Ali-CCP and AliExpress, warm start, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from funnelcast.data.table import Table
from harness.calls import call
from tests.cli.conftest import SCHEMA
from tests.cli.test_main import refused
from tests.data.datasets.aliexpress.reference import write_pair


def test_any_log(made: Path, tmp_path: Path) -> None:
    answer = call("prepare", made / "schema.toml", "--train", made / "log.csv", "--out", tmp_path / "table")
    assert answer.code == 0 and "rows read: 400" in answer.out
    assert Table.open(tmp_path / "table").manifest["rows"] == Table.open(made / "table").manifest["rows"]


def test_an_existing_output(made: Path, tmp_path: Path) -> None:
    arguments = ("prepare", made / "schema.toml", "--train", made / "log.parquet", "--out", tmp_path / "table")
    assert call(*arguments).code == 0
    said = refused(*arguments)
    assert str(tmp_path / "table") in said and "--replace" in said
    assert call(*arguments, "--replace").code == 0


@pytest.mark.parametrize("schema", ["generic", "ali-ccp"])
def test_only_a_table_is_replaced(made: Path, tmp_path: Path, raw: Path, schema: str) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/one.jpg").touch()
    train = made / "log.parquet" if schema == "generic" else raw / "sample_skeleton_train.csv"
    name = made / "schema.toml" if schema == "generic" else schema
    said = refused("prepare", name, "--train", train, "--out", tmp_path / "photos", "--replace")
    assert "is not replaced" in said and str(tmp_path / "photos") in said
    assert (tmp_path / "photos/one.jpg").exists()


def test_missing_files(made: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "table")
    said = refused("prepare", tmp_path / "none.toml", "--train", made / "log.csv", *out)
    assert "none.toml: does not exist" in said
    assert "log.cvs does not exist; did you mean 'log.csv'?" in refused(
        "prepare", made / "schema.toml", "--train", made / "log.cvs", *out
    )
    assert "skeleton.csv" in refused("prepare", "ali-ccp", "--train", tmp_path / "skeleton.csv", *out)
    assert list(tmp_path.iterdir()) == []


def test_a_log_in_place_of_the_schema(made: Path, tmp_path: Path) -> None:
    said = refused("prepare", made / "log.parquet", "--train", made / "schema.toml", "--out", tmp_path / "table")
    assert "log.parquet: is a log (.parquet), not a schema; write: prepare SCHEMA.toml --train " in said


def test_sizes_of_vocabularies_are_told(made: Path, tmp_path: Path) -> None:
    rare = SCHEMA.replace('user = "categorical"', "user = {min_count = 100000}")
    for name, content in (("all", SCHEMA), ("rare", rare)):
        (tmp_path / f"{name}.toml").write_text(content)
    arguments = ("--train", made / "log.parquet", "--out", tmp_path / "table", "--replace")
    for name, sizes in (("all", "user 21\n"), ("rare", "user 1 (20 rarer than min_count)\n")):
        answer = call("prepare", tmp_path / f"{name}.toml", *arguments)
        assert f"ids of each vocabulary, the unknown one included: {sizes}" in answer.out


def test_a_schema_with_unknown_words(made: Path, tmp_path: Path) -> None:
    (tmp_path / "schema.toml").write_text(SCHEMA.replace("keep", "kep").replace('"numeric"', '"number"'))
    said = refused("prepare", tmp_path / "schema.toml", "--train", made / "log.csv", "--out", tmp_path / "table")
    assert "2 faults" in said and "did you mean 'keep'?" in said and "did you mean 'numeric'?" in said


def test_warm_start_keeps_the_scaling_of_numbers(made: Path, tmp_path: Path) -> None:
    log = pq.read_table(made / "log.parquet")
    older = log.set_column(3, "age", pa.compute.add(log["age"], 30.0))
    pq.write_table(older, tmp_path / "older.parquet")
    arguments = ("prepare", made / "schema.toml", "--train", tmp_path / "older.parquet")
    assert call(*arguments, "--init", made / "run/bundle", "--out", tmp_path / "kept").code == 0
    assert call(*arguments, "--out", tmp_path / "fitted").code == 0
    before = Table.open(made / "table").encoder.numbers
    assert Table.open(tmp_path / "kept").encoder.numbers == before
    assert Table.open(tmp_path / "fitted").encoder.numbers != before
    train = ("train", made / "man.toml", "--init", made / "run/bundle", "--out", tmp_path / "run", "--data")
    assert "--init BUNDLE" in refused(*train, tmp_path / "fitted")
    assert call(*train, tmp_path / "kept").code == 0


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ('age = {kind = "numeric", transform = "bins"}', "feature 'age' is bins, the bundle has it as standard"),
        ('age = "numeric"\nrow = "numeric"', "feature 'row' is standard, the bundle has no such number"),
        ('age = "numeric"\nrow = "categorical"', "vocabulary 'row' is not in the bundle; use the bundle's schema"),
    ],
)
def test_warm_start_with_other_features(made: Path, tmp_path: Path, features: str, said: str) -> None:
    (tmp_path / "s.toml").write_text(SCHEMA.replace('age = "numeric"', features))
    arguments = ("prepare", tmp_path / "s.toml", "--train", made / "log.csv", "--out", tmp_path / "table")
    assert said in refused(*arguments, "--init", made / "run/bundle")


def test_warm_start_with_ids_of_another_type(made: Path, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("row,campaign,user,age,click,buy\n" + "1,sale,u1,40,1,0\n" * 99)
    arguments = ("prepare", made / "schema.toml", "--train", tmp_path / "log.csv", "--out", tmp_path / "table")
    said = refused(*arguments, "--init", made / "run/bundle")
    assert "vocabulary 'user' has strings in the log, integers in the bundle; convert the column" in said


def test_warm_start_without_a_single_id(made: Path, tmp_path: Path) -> None:
    log = pq.read_table(made / "log.parquet")
    pq.write_table(log.set_column(2, "user", pa.nulls(len(log))), tmp_path / "log.parquet")
    arguments = ("prepare", made / "schema.toml", "--train", tmp_path / "log.parquet", "--out", tmp_path / "table")
    assert call(*arguments, "--init", made / "run/bundle").code == 0
    kept, before = (Table.open(folder).encoder.vocabularies["user"] for folder in (tmp_path / "table", made / "table"))
    assert kept.values.equals(before.values)


def test_warm_start_from_no_bundle(made: Path, tmp_path: Path) -> None:
    arguments = ("prepare", made / "schema.toml", "--train", made / "log.csv", "--out", tmp_path / "table", "--init")
    assert "so it is no bundle" in refused(*arguments, tmp_path)
    assert "a run's bundle is RUN/bundle" in refused(*arguments, made / "run")


def test_ali_ccp(raw: Path, tmp_path: Path) -> None:
    files = {part: raw / f"sample_skeleton_{part}.csv" for part in ("train", "test")}
    arguments = ("prepare", "ali-ccp", "--train", files["train"], "--test", files["test"], "--out", tmp_path / "table")
    answer = call(*arguments)
    assert answer.code == 0 and "train rows read: 667" in answer.out and "test rows read: 333" in answer.out
    assert "is given for both train and test" in refused(*arguments, "--test", files["train"], "--replace")
    (tmp_path / "log.csv").touch()
    said = refused("prepare", "ali-ccp", "--train", tmp_path / "log.csv", "--out", tmp_path / "new")
    assert "name both like sample_skeleton_train.csv and common_features_train.csv" in said
    assert "--dev" in refused(*arguments, "--dev", files["test"])
    assert "--init" in refused(*arguments, "--init", tmp_path)


@pytest.mark.slow
def test_aliexpress(tmp_path: Path) -> None:
    train, test = write_pair(tmp_path)
    arguments = ("prepare", "aliexpress", "--train", train, "--out", tmp_path / "table")
    assert "give --test test.csv" in refused(*arguments)
    assert "--dev" in refused(*arguments, "--test", test, "--dev", test)
    assert "--init" in refused(*arguments, "--test", test, "--init", tmp_path)
    assert "did you mean 'aliexpress'?" in refused("prepare", "ali-express", *arguments[2:])
    answer = call(*arguments, "--test", test)
    assert answer.code == 0 and "rows read: 360" in answer.out and "categorical_1 3, categorical_2 4" in answer.out
    assert Table.open(tmp_path / "table").rows("test") == 120


def test_too_many_bad_rows(raw: Path, tmp_path: Path) -> None:
    for path in raw.glob("*_train.csv"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with (tmp_path / "sample_skeleton_train.csv").open("a") as file:
        file.write("1,7,0,ff,0,\n")
    arguments = ("prepare", "ali-ccp", "--train", tmp_path / "sample_skeleton_train.csv", "--out", tmp_path / "table")
    said = refused(*arguments)
    assert "1 of 681 rows are bad" in said and "click is not 0 or 1" in said and "--max-bad" in said
    assert "sample_skeleton_train.csv,668," in (tmp_path / "table.quarantine.csv").read_text()
    answer = call(*arguments, "--max-bad", 0.01)
    assert answer.code == 0 and "quarantined: label: 1" in answer.out


def test_a_schema_that_is_not_there(made: Path, tmp_path: Path) -> None:
    arguments = ("--train", made / "log.parquet", "--out", tmp_path / "table")
    assert "did you mean 'ali-ccp'?" in refused("prepare", "aliccp", *arguments)
    assert "did you mean 'schema.toml'?" in refused("prepare", made / "shcema.toml", *arguments)
