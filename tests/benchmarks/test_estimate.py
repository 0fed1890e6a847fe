"""What a benchmark says beforehand that it will take."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import pytest

from funnelcast.benchmarks import estimate as module
from funnelcast.benchmarks.estimate import Estimate, estimate, main, probe
from funnelcast.benchmarks.run import Plan
from funnelcast.benchmarks.run_pool import ModelRun
from funnelcast.data.table import Table
from funnelcast.experiments.experiment import Experiment
from tests import tiny


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return tiny.write_table(tmp_path_factory.mktemp("estimate") / "table")


def runs_of(folder: Path, table: Table, *seconds: float) -> list[ModelRun]:
    """One model; those with `seconds` above 0 are finished."""
    runs = [ModelRun("M", seed, tiny.experiment(), folder / str(seed), table.folder) for seed in range(len(seconds))]
    for run, own in zip(runs, seconds, strict=True):
        run.folder.mkdir()
        if own:
            (run.folder / "cell.json").write_text(json.dumps({"cost": {"seconds": own, "peak_bytes": 10 * own}}))
    return runs


def test_of_finished_runs_it_is_the_mean_time_and_the_most_memory(table: Table, tmp_path: Path) -> None:
    assert estimate(runs_of(tmp_path, table, 1, 2, 9, 0), table.folder, 1) == {"M": Estimate(4, 90, True)}


def test_memory_is_that_of_the_largest_runs_side_by_side(table: Table, tmp_path: Path) -> None:
    runs = runs_of(tmp_path, table, 1, 0, 0, 0)
    plans = [Plan(runs, {"M": Estimate(1, 100)}, jobs, table) for jobs in (1, 2, 4)]
    assert [plan.bytes for plan in plans] == [100, 200, 300]
    other = ModelRun("N", 0, tiny.experiment(), tmp_path / "N", table.folder)
    both = {"M": Estimate(1, 100), "N": Estimate(1, 7)}
    assert [Plan([*runs, other], both, jobs, table).bytes for jobs in (3, 4, 5)] == [300, 307, 307]
    assert Plan([*runs, other], {"N": Estimate(1, 7)}, 4, table).bytes == 7


def test_stages_by_keys_and_of_one_name_are_probed(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCHES", 2)  # of 64 rows: not all 160
    stages = [{"epochs": 1}, {"epochs": 1, "meta": {"by": "campaign"}}, {"epochs": 1, "meta": {"by": "user"}}]
    found = probe(tiny.experiment(stages=stages), table, tmp_path)
    assert found.seconds > 0 and found.bytes > 0
    assert sorted(path.parent.name for path in tmp_path.glob("*/log.jsonl")) == ["0", "1", "2"]


def test_trees_next_to_a_network_take_their_time(table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(experiment: Experiment, _encoder: Any, _train: Any, _dev: Any, folder: Path) -> None:
        assert experiment.model.name == "lightgbm"
        folder.mkdir()
        (folder / "log.jsonl").write_text('{"seconds": 1e6}\n{"seconds": 2e6}\n')

    monkeypatch.setattr(module, "fit_boosters", fit)
    assert 3e6 < probe(tiny.experiment(stacking={"rounds": 2}), table, tmp_path).seconds < 3.1e6


def test_a_model_that_fails_leaves_the_others_their_estimates(
    table: Table, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def probed(experiment: Experiment, table: Table, folder: Path) -> Estimate:
        assert experiment.name != "bad", "a fault of ours"
        return Estimate(1.0, 5)

    monkeypatch.setattr(module, "probe", probed)
    models = {name: tiny.experiment(name=name).model_dump(mode="json") for name in ("one", "bad", "two")}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(models)))
    assert main([str(table.folder), str(time.time())]) == 0
    output = capsys.readouterr()
    assert [list(json.loads(line)) for line in output.out.splitlines()] == [["one"], ["two"]]
    assert "a fault of ours" in output.err
