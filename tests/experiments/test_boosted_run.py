"""Runs of boosters: the same job as of networks, from raw log to predictions; and what they cannot do, with its fix."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import funnelcast
from funnelcast.boosting.fit import Boosting
from funnelcast.boosting.trees import Trees
from funnelcast.data.table import Table
from funnelcast.errors import ConfigError, FunnelcastError
from funnelcast.experiments.evaluate import evaluate
from funnelcast.experiments.experiment import Experiment
from funnelcast.experiments.run import Run, train
from funnelcast.serving.bundle import Bundle
from proofs.killed import content
from tests import tiny
from tests.kill import kills

MODEL = {"name": "lightgbm", "rounds": 8, "patience": 8, "num_leaves": 4, "min_rows_per_leaf": 5, "learning_rate": 0.3}
SCHEMA = """
funnel = "click; conversion after click"
weight = "weight"
split = {dev = 0.2, test = 0.3}
[features]
user = "categorical"
price = "numeric"
tags = {kind = "multi", weights = "factors"}
viewed = {kind = "sequence", max_length = 3}
"""


def experiment(**changes: Any) -> Experiment:
    return Experiment.from_dict({"name": "boosted", "workers": 1, "model": MODEL} | changes)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return tiny.write_table(tmp_path_factory.mktemp("boosted") / "table")


@pytest.fixture(scope="module")
def finished(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(experiment(), table, tmp_path_factory.mktemp("boosted") / "run", baselines=False)


def log_with_lists(rows: int) -> pa.Table:
    rng = np.random.default_rng(0)
    tags = [rng.integers(0, 9, n).tolist() for n in rng.integers(0, 4, rows)]
    viewed = pa.array([rng.integers(0, 6, n).tolist() for n in rng.integers(0, 5, rows)], mask=rng.random(rows) < 0.1)
    factors = [rng.random(len(each)).tolist() for each in tags]
    click = np.array([rng.random() < 0.2 + 0.6 * (3 in each) for each in tags])
    return pa.table(
        {
            "user": rng.integers(0, 30, rows),
            "price": rng.normal(size=rows),
            "tags": tags,
            "factors": factors,
            "viewed": viewed,
            "click": click.astype(int),
            "conversion": (click & (rng.random(rows) < 0.4)).astype(int),
            "weight": rng.random(rows),
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{}, {"ids": "target_statistics", "loss_space": "given_parent"}], ids=["defaults", "conditional"]
)
def test_the_whole_job_with_lists(changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions of raw rows are those that evaluation measures, and the bundle is what was trained."""
    monkeypatch.chdir(tmp_path)
    pq.write_table(log_with_lists(1200), "log.parquet")
    Path("schema.toml").write_text(SCHEMA)
    funnelcast.prepare("schema.toml", "table", train="log.parquet")
    run = funnelcast.train(experiment(model=MODEL | changes), "table", "run", baselines=False)
    assert funnelcast.evaluate("run/bundle", "table")["outputs"] == run.results["test"]
    assert run.results["test"]["click"]["auc"]["estimate"] > 0.6
    raw, loaded = log_with_lists(1200), funnelcast.load("run/bundle")
    predicted = loaded.predict(raw)
    assert predicted.equals(funnelcast.Predictor(run.bundle).predict(raw))
    for start, rows in ((5, 1), (100, 37)):
        assert loaded.predict(raw.slice(start, rows)).equals(predicted.slice(start, rows))
    funnelcast.predict_file("run/bundle", "table", "a.parquet")
    funnelcast.predict_file("run/bundle", "log.parquet", "b.parquet")
    of_table, of_log = (pq.read_table(f"{name}.parquet").to_pandas() for name in ("a", "b"))
    assert of_table.p_click.isin(of_log.p_click).all() and len(of_table) < len(of_log)
    assert funnelcast.compare("b.parquet", "b.parquet")["conversion"]["estimate"] == 0


def test_what_a_run_leaves(finished: Run, table: Table) -> None:
    names = sorted(path.name for path in finished.folder.iterdir())
    assert names == ["bundle", "experiment.json", "log.jsonl", "results.json"]
    inside = sorted(path.name for path in (finished.folder / "bundle").iterdir() if path.is_file())
    assert inside == [
        "boosters.json",
        "bundle.json",
        "encoder.json",
        "golden.parquet",
        "statistics.safetensors",
        "step-0.txt",
        "step-1.txt",
    ]
    bundle = Bundle.load(finished.folder / "bundle")
    assert bundle.fingerprint == finished.bundle.fingerprint
    assert Experiment.from_dict(bundle.experiment) == experiment()
    assert {part: evaluate(bundle, table, part)["outputs"] for part in ("dev", "test")} == finished.results


@pytest.mark.slow
def test_neither_threads_nor_another_run_change_a_file(finished: Run, table: Table, tmp_path: Path) -> None:
    """But for `bundle.json`, which says how many threads there were."""
    train(experiment(workers=2), table, tmp_path, baselines=False)
    found, expected = content(tmp_path), content(finished.folder)
    assert {name for name in expected if found[name] != expected[name]} == {"bundle/bundle.json"}
    assert found.keys() == expected.keys()
    assert train(experiment(), table, tmp_path, baselines=False).bundle.fingerprint == finished.bundle.fingerprint


def test_an_interrupted_run_goes_on_to_the_same_bundle(finished: Run, table: Table, tmp_path: Path) -> None:
    def progress(stage: str, done: int, total: int, unit: str, note: str = "") -> None:
        if (stage, done) == ("step conversion", 3):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(experiment(), table, tmp_path, progress=progress)
    assert not (tmp_path / "bundle").exists() and (tmp_path / "checkpoint/step-0").is_dir()
    with pytest.raises(FunnelcastError, match="holds a run of another"):
        train(experiment(seed=1), table, tmp_path)
    assert train(experiment(), table, tmp_path, baselines=False).bundle.fingerprint == finished.bundle.fingerprint
    assert content(tmp_path) == content(finished.folder)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_killed_before_any_operation_on_files_it_goes_on_to_the_same_files(table: Table, tmp_path: Path) -> None:
    folder, boosted = tmp_path / "run", experiment(model=MODEL | {"rounds": 2, "ids": "target_statistics"})
    train(boosted, table, tmp_path / "whole", baselines=False)
    whole, met = content(tmp_path / "whole"), set()

    def resume() -> None:
        train(boosted, table, folder, baselines=False)

    for number in kills(lambda: shutil.rmtree(folder, ignore_errors=True), resume):
        met |= {path.name.partition(".partial")[0] for path in folder.rglob(".*")}
        assert not (folder / "bundle").exists() or content(folder / "bundle") == content(tmp_path / "whole/bundle")
        resume()
        assert content(folder) == whole, number
    assert met == {".experiment.json", ".step-0", ".step-1", ".log.jsonl", ".bundle", ".results.json"}


def test_the_test_rows_are_not_touched_before_training_ends(
    tmp_path: Path, finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tiny.write_table(tmp_path / "table")
    plain, hidden = table.folder / "test", tmp_path / "hidden"
    fitted = Boosting.run

    def without_test_rows(self: Boosting, *parts: Any) -> Any:
        assert not plain.exists()
        try:
            return fitted(self, *parts)
        finally:
            hidden.rename(plain)

    monkeypatch.setattr(Boosting, "run", without_test_rows)
    plain.rename(hidden)
    assert train(experiment(), Table.open(table.folder), tmp_path / "run", baselines=False).results == finished.results


@pytest.mark.slow
def test_sampled_negatives(tmp_path: Path) -> None:
    schema = tiny.SCHEMA.model_copy(update={"weight": None})
    log, table = tiny.draw_log(20_000), tmp_path / "table"
    pq.write_table(log.filter(log["click"].is_valid()), tmp_path / "log.parquet")
    funnelcast.prepare(schema, table, train=tmp_path / "log.parquet")
    found = train(experiment(keep_negatives=0.2), table, tmp_path / "run").results["dev"]
    assert all(0.93 < m["observed_over_predicted"] < 1.07 for m in found.values())
    assert json.loads((tmp_path / "run/log.jsonl").read_text().splitlines()[0])["rows"] < 10_000


def faults_of(table: Table, **changes: Any) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        experiment(**changes).check(table.encoder)
    return {fault.where: str(fault) for fault in caught.value.faults}


def test_settings_that_only_gradients_read(table: Table) -> None:
    changes: dict[str, Any] = {"loss": {"focal_gamma": 1}, "optimizer": {"l2": 0.1}, "stages": [{"epochs": 3}]}
    found = faults_of(table, **changes, device="cuda")
    assert list(found) == ["loss", "optimizer", "stages", "device"]
    for setting in ("loss", "optimizer", "stages"):
        assert (
            "is not read by lightgbm, which is not trained by gradients; leave it out; under [model], lightgbm has"
            in (found[setting])
        )
        assert all(f" {name}" in found[setting] for name in ("rounds", "patience", "learning_rate", "num_leaves"))
        assert "loss_space" not in found[setting]
    assert found["device"] == "device: lightgbm does not run on a GPU; set 'auto' or 'cpu'"
    assert experiment(device="cpu", loss={}, optimizer={}, stages=[{}]).check(table.encoder)


def test_a_product_over_all_rows(table: Table) -> None:
    assert list(faults_of(table, model=MODEL | {"head": "chain"})) == ["model.head"]


def test_without_the_package(finished: Run, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(ConfigError, match="python -m pip install lightgbm"):
        train(experiment(), table, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(FunnelcastError, match="python -m pip install lightgbm"):
        Bundle.load(finished.folder / "bundle")
    assert train(tiny.experiment(stages=[{"epochs": 1}]), table, tmp_path / "run").results


def test_no_warm_start(finished: Run, table: Table, tmp_path: Path) -> None:
    with pytest.raises(FunnelcastError, match="lightgbm cannot start from a bundle: .*; leave out --init"):
        train(experiment(), table, tmp_path / "run", init=finished.bundle)
    with pytest.raises(FunnelcastError, match="the bundle holds lightgbm, which has no parameters to start from"):
        train(tiny.experiment(), table, tmp_path / "run", init=finished.bundle)
    assert not (tmp_path / "run").exists()


def test_trees_were_grown(finished: Run) -> None:
    """Or all this would hold of nothing."""
    for step in finished.bundle.model.steps:  # type: ignore[attr-defined]
        assert isinstance(step, Trees) and "num_leaves=4" in step.text
