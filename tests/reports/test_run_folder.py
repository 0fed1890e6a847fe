"""What is no run, or no whole one, is refused with what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from funnelcast.errors import FunnelcastError
from funnelcast.reports.content import of_benchmark
from funnelcast.reports.run_folder import BenchmarkRun, TrainingRun, read_run
from tests.reports.runs import MODELS, ODD, OUTPUTS


def test_a_benchmark_is_read_whole(benchmark_run: Path) -> None:
    run = read_run(benchmark_run)
    assert isinstance(run, BenchmarkRun)
    assert set(run.aucs) == set(MODELS) == set(run.logs)
    assert list(run.aucs[ODD]) == list(OUTPUTS)
    for name in MODELS:
        values = run.results["models"][name]["figures"]["click"]["auc"]["values"]
        assert [seed["estimate"] for seed in run.aucs[name]["click"]] == values
        assert [epoch["epoch"] for epoch in run.logs[name].epochs] == [0]


def test_a_training_run_is_read_whole(training_run: Path) -> None:
    run = read_run(training_run)
    assert isinstance(run, TrainingRun)
    assert [epoch["stage"] for epoch in run.log.epochs] == ["general", "general", "top"]
    assert set(run.log.epochs[0]["dev_auc"]) == set(OUTPUTS)
    assert not run.log.boosters and not run.diagnosis


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("results.json", None, "is not finished: it has no results.json; run the same funnelcast benchmark again"),
        ("results.json", "{", r"results.json is damaged .* run the same command again"),
        ("results.json", "[]", "results.json is damaged: it holds no object"),
        ("results.json", "{}", "lacks what a report needs .KeyError: 'models'"),
        ("benchmark.json", "{}", "lacks what a report needs .KeyError: 'models'"),
        ("benchmark.json", "", "benchmark.json is damaged"),
        ("diagnosis.json", "nan!", "diagnosis.json is damaged"),
        ("diagnosis.json", '{"botom": {}}', "a diagnosis of 'botom', which is no model here; did you mean 'bottom'"),
        ("cells/bottom/0/run/log.jsonl", '{"epoch": 1}', "log.jsonl is damaged .* delete it"),
        ("cells/bottom/0/cell.json", "{}", "lacks what a report needs .KeyError: 'metrics'"),
    ],
)
def test_what_is_not_whole_is_told(
    benchmark_run: Path, tmp_path: Path, file: str, text: str | None, message: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(benchmark_run, folder)
    (folder / file).unlink(missing_ok=True)
    if text is not None:
        (folder / file).write_text(text)
    with pytest.raises(FunnelcastError, match=message):
        read_run(folder)


def test_a_model_that_lacks_a_part_is_named(benchmark_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(benchmark_run, folder)
    results = json.loads((folder / "results.json").read_text())
    del results["models"]["bottom"]["gains"]
    (folder / "results.json").write_text(json.dumps(results))
    with pytest.raises(FunnelcastError, match="gains of bottom"):
        read_run(folder)


def test_results_of_before_there_was_a_best_are_told(benchmark_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(benchmark_run, folder)
    results = json.loads((folder / "results.json").read_text())
    del results["best"]
    (folder / "results.json").write_text(json.dumps(results))
    with pytest.raises(FunnelcastError, match="best"):
        read_run(folder)


@pytest.mark.slow
def test_an_old_diagnosis_of_a_model_that_was_taken_out_is_no_error(benchmark_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(benchmark_run, folder)
    results = json.loads((folder / "results.json").read_text())
    del results["models"]["absent"]
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "diagnosis.json").write_text('{"absent": {}}')
    run = read_run(folder)
    assert isinstance(run, BenchmarkRun) and "absent" not in of_benchmark(run).diagnoses


def test_without_runs_there_are_no_intervals_and_no_curves(benchmark_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(benchmark_run, folder, ignore=shutil.ignore_patterns("cells"))
    run = read_run(folder)
    assert isinstance(run, BenchmarkRun)
    assert not run.aucs and not any(log.epochs for log in run.logs.values())


def test_a_folder_that_is_no_run_says_where_one_is(training_run: Path, tmp_path: Path) -> None:
    with pytest.raises(FunnelcastError, match="is no folder"):
        read_run(tmp_path / "absent")
    with pytest.raises(FunnelcastError, match="neither a benchmark nor a training run; give what funnelcast made"):
        read_run(tmp_path)
    with pytest.raises(FunnelcastError, match=f"its run is {training_run}"):
        read_run(training_run / "bundle")
    with pytest.raises(FunnelcastError, match="but these in it are runs: run"):
        read_run(training_run.parent)
    (tmp_path / "best").mkdir()
    (tmp_path / "best/suite.toml").touch()
    with pytest.raises(FunnelcastError, match=f"it is a search: run funnelcast benchmark {tmp_path}/best/suite.toml"):
        read_run(tmp_path)


def test_an_unfinished_training_run_is_told(training_run: Path, tmp_path: Path) -> None:
    shutil.copy(training_run / "experiment.json", tmp_path)
    with pytest.raises(FunnelcastError, match="run the same funnelcast train again"):
        read_run(tmp_path)
