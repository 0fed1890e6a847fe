"""The public surface of the package."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import funnelcast
from tests import tiny

TEN = Path(__file__).parent / "data/datasets/census/ten.csv"


def test_every_public_name_is_there_and_listed_once() -> None:
    assert sorted(funnelcast.__all__) == sorted(funnelcast._HOMES)
    for name in funnelcast.__all__:
        assert getattr(funnelcast, name).__module__ == f"funnelcast.{funnelcast._HOMES[name]}"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'predictor'"):
        _ = funnelcast.predictor


def test_version_and_names() -> None:
    assert funnelcast.__version__ == version("funnelcast")
    assert {"__version__", "predict_file", "train_seeds"} <= set(dir(funnelcast))


def test_every_data_file_is_in_the_package() -> None:
    root = Path(__file__).parent.parent
    declared = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["funnelcast"]
    files = [
        path for path in (root / "src/funnelcast").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    missing = [path for path in files if path.suffix != ".py" and not any(path.match(each) for each in declared)]
    assert files and not missing


@pytest.mark.slow
def test_the_whole_job_with_paths_as_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what a verb of the command line takes in place of an object."""
    monkeypatch.chdir(tmp_path)
    pq.write_table(tiny.draw_log(600), "log.parquet")
    features = 'features = {user = "categorical", item = "categorical", price = "numeric"}'
    Path("schema.toml").write_text(f'funnel = "click; conversion after click"\nweight = "weight"\n{features}')
    manifest = funnelcast.prepare("schema.toml", "table", train="log.parquet")
    assert sum(manifest["rows"].values()) == 600
    experiment = tiny.experiment(model={"name": "shared_bottom", "expert": [4], "tower": [4], "tower_dropout": []})
    run = funnelcast.train(experiment, "table", "run")
    assert funnelcast.evaluate("run/bundle", "table") == funnelcast.evaluate(run.bundle, "table")
    second = funnelcast.prepare("schema.toml", "again", train="log.parquet", init="run/bundle")
    assert second["rows"] == manifest["rows"]
    for name in ("a", "b"):
        funnelcast.predict_file("run/bundle", "log.parquet", f"{name}.parquet")
    assert funnelcast.compare("a.parquet", "b.parquet")["click"]["estimate"] == 0


@pytest.mark.slow
def test_data_sets_with_paths_as_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = funnelcast.generate("raw", 1000, realistic=True)
    assert made.config.click_rate == 0.0388
    train, test = (f"raw/sample_skeleton_{part}.csv" for part in ("train", "test"))
    manifest = funnelcast.prepare_aliccp(train, test, "table")
    assert manifest["rows"]["test"] == made.test.rows - made.test.broken
    with pytest.raises(funnelcast.FunnelcastError, match="exists already"):
        monkeypatch.setattr("funnelcast.data.datasets.census.prepare.fetch", lambda progress: (TEN, TEN))
        funnelcast.prepare_census("table")


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, funnelcast; print(sorted({'torch', 'numba', 'pyarrow', 'ibis', 'pandas'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
