"""Benchmarks as processes: finished runs are not run again, a failing one stops no other, kills change nothing."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from funnelcast.benchmarks import run
from funnelcast.benchmarks.run import Plan, benchmark
from funnelcast.benchmarks.run_pool import ModelRun
from funnelcast.benchmarks.suite import Suite
from funnelcast.benchmarks.table_source import open_data
from funnelcast.data.progress import silent
from funnelcast.errors import ConfigError, FunnelcastError
from funnelcast.experiments.experiment import Experiment
from tests import tiny
from tests.benchmarks.suites import BOTTOM, MMOE, in_this_process, without_estimates, write_suite

BAD = MMOE + "optimizer = {learning_rate = 1e30}\n"


def columns_of(results: dict[str, Any], out: Path) -> tuple[Any, dict[str, Any]]:
    """All that a kill must not change: figures, gains, and the checksums of predictions."""
    runs = {str(path.parent): json.loads(path.read_text()) for path in sorted(out.glob("cells/*/*/cell.json"))}
    figures = {Path(name).relative_to(out).as_posix(): (c["metrics"], c["predictions"]) for name, c in runs.items()}
    return [(model["figures"], model["gains"]) for model in results["models"].values()], figures


@pytest.mark.slow
def test_it_goes_on_and_takes_more_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And runs in processes of their own come to what they come to in this one."""
    table, out = tiny.write_table(tmp_path / "table").folder, tmp_path / "out"
    ended, plans = list[ModelRun](), list[Plan]()
    one = write_suite(tmp_path, seeds=1, models={"Shared bottom": "models/bottom.toml"})
    benchmark(one, table, out, on_end=ended.append, on_plan=plans.append)
    made = {path: path.stat().st_mtime_ns for path in out.glob("cells/**/*.json")}
    said = json.loads((out / "benchmark.json").read_text())
    del said["models"]["Shared bottom"]["unknown_ids"]  # as of a version that did not have the setting
    (out / "benchmark.json").write_text(json.dumps(said))
    assert plans[0].estimates.keys() == {"Shared bottom"} and plans[0].estimates["Shared bottom"].seconds > 0
    without_estimates(monkeypatch)
    two = benchmark(write_suite(tmp_path, seeds=1), table, out, jobs=2, on_end=ended.append, on_plan=plans.append)
    assert [run.model for run in ended] == ["Shared bottom", "MMoE"] and not plans[1].left
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert two["models"]["MMoE"]["seeds"] == [0] and (out / "results.md").is_file()
    in_this_process(monkeypatch)
    fresh = benchmark(tmp_path / "suite.toml", table, tmp_path / "fresh")
    assert columns_of(fresh, tmp_path / "fresh") == columns_of(two, out)


@pytest.mark.slow
def test_a_run_that_fails_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_estimates(monkeypatch)
    table, out = tiny.write_table(tmp_path / "table").folder, tmp_path / "out"
    suite = write_suite(tmp_path, seeds=1)
    (tmp_path / "models/mmoe.toml").write_text(BAD)
    found = benchmark(suite, table, out)
    assert "diverged" in found["models"]["MMoE"]["failed"][0] and found["models"]["Shared bottom"]["seeds"] == [0]
    assert "**MMoE, seed 0 failed:**" in (out / "results.md").read_text()
    (tmp_path / "models/mmoe.toml").write_text(BAD.replace("1e30", "1e-3"))
    with pytest.raises(FunnelcastError, match=r"runs of MMoE with other settings; delete .*mmoe"):
        benchmark(suite, table, out)


@pytest.mark.slow
def test_killed_it_leaves_no_process_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At ten moments: scripts/proof benchmark-kills."""
    table, out = tiny.write_table(tmp_path / "table").folder, tmp_path / "out"
    suite = write_suite(tmp_path, seeds=1)
    program = "import sys; from funnelcast.cli.main import main; sys.argv[0] = 'funnelcast'; main()"
    command = [sys.executable, "-c", program, "benchmark", str(suite), "--data", str(table), "--out", str(out)]
    process = subprocess.Popen([*command, "--jobs", "2"], stdout=subprocess.DEVNULL)
    while not list(out.glob("cells/*/0/run/log.jsonl")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.2)
    assert not [pid for pid in Path("/proc").glob("[0-9]*") if str(out).encode() in _command(pid)]
    without_estimates(monkeypatch)
    resumed = benchmark(suite, table, out)
    in_this_process(monkeypatch)
    whole = benchmark(suite, table, tmp_path / "whole")
    assert columns_of(resumed, out) == columns_of(whole, tmp_path / "whole")


def _command(process: Path) -> bytes:
    try:
        return b"" if process.name == str(os.getpid()) else (process / "cmdline").read_bytes()
    except OSError:
        return b""


def test_another_table_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    table = tiny.write_table(tmp_path / "table")
    claim = {"protocol": {"name": "other", "fingerprint": "0"}, "files": {}, "models": {}}
    (out / "benchmark.json").write_text(json.dumps(claim))
    with pytest.raises(FunnelcastError, match="figures of two tables are not mixed"):
        benchmark(write_suite(tmp_path), table.folder, out)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(FunnelcastError, match="holds no benchmark"):
        benchmark(write_suite(tmp_path / "suite"), tmp_path / "table", tmp_path)


def test_the_claim_has_the_options_as_a_shell_takes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiny.write_table(tmp_path / "my table").folder
    monkeypatch.setattr(run, "estimate", lambda *_: {})
    monkeypatch.setattr(run, "run_models", lambda *_: None)
    benchmark(write_suite(tmp_path), data, tmp_path / "out")
    said = json.loads((tmp_path / "out/benchmark.json").read_text())
    assert shlex.split(said["options"]) == ["--data", str(data)]


def test_faults_of_all_models_are_told_at_once(tmp_path: Path) -> None:
    suite = write_suite(tmp_path)
    for name in ("bottom", "mmoe"):
        text = BOTTOM.replace("epochs = 1", 'metric = "auc_clicks"').replace("shared_bottom", "shared_bottom")
        (tmp_path / f"models/{name}.toml").write_text(text)
    table = tiny.write_table(tmp_path / "table", test=0)
    with pytest.raises(ConfigError) as caught:
        benchmark(suite, table.folder, tmp_path / "out")
    said = str(caught.value)
    assert all(part in said for part in ("Shared bottom: stages.0.metric", "MMoE: stages.0.metric", "has no test rows"))
    assert not (tmp_path / "out").exists()


def test_a_table_and_a_generated_log_are_not_taken_together(tmp_path: Path) -> None:
    with pytest.raises(FunnelcastError, match=r"--data table and --generated 3000 were both given.*leave one out"):
        benchmark(write_suite(tmp_path), "table", tmp_path / "out", generated=3000)
    assert not (tmp_path / "out").exists()


def test_without_ali_ccp_it_says_where_to_get_it(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, source="ali-ccp", data="nowhere")
    with pytest.raises(FunnelcastError) as caught:
        benchmark(suite, None, tmp_path / "out")
    said = str(caught.value)
    assert all(part in said for part in ("Tianchi", "GB", "minutes", "--data", f"benchmark {suite} --generated 400000"))
    with pytest.raises(FunnelcastError, match="names no data"):
        benchmark(write_suite(tmp_path), None, tmp_path / "out")


def test_a_table_that_was_generated_is_not_taken_for_another(tmp_path: Path) -> None:
    """Neither for Ali-CCP, nor for a log of another size."""
    made = tiny.write_table(tmp_path / "out/generated-3000")
    (tmp_path / "out/table").mkdir()
    suite = Suite(name="s", source="ali-ccp", models={"M": Path("man-paper")}, rows=3000)
    with pytest.raises(FunnelcastError, match="Tianchi"):
        open_data(suite, Path("s.toml"), None, tmp_path / "out", silent)
    generated = suite.model_copy(update={"source": "generated"})
    assert open_data(generated, Path("s.toml"), None, tmp_path / "out", silent).folder == made.folder
    other = open_data(generated.model_copy(update={"rows": 1000}), Path("s.toml"), None, tmp_path / "out", silent)
    assert other.rows("test") == 333


@pytest.mark.slow
def test_a_generated_log_is_made_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_this_process(monkeypatch)
    suite = write_suite(tmp_path, source="ali-ccp", data="nowhere", seeds=1, models={"B": "models/bottom.toml"})
    found = benchmark(suite, None, tmp_path / "out", generated=3000)
    assert found["protocol"]["name"] == "aliccp-aitm" and found["models"]["B"]["seeds"] == [0]
    assert found["test_rows"] == 1000 and not (tmp_path / "out/raw").exists()


def test_threads_decide_no_figure_of_a_cell(tmp_path: Path) -> None:
    """Micro-batches go one by one, but for a file that says how many."""
    for said, expected in (({}, 1), ({"at_once": 2}, 2)):
        experiment = tiny.experiment(optimizer={**tiny.experiment().optimizer.model_dump(), **said})
        settings = ModelRun("MMoE", 0, experiment, tmp_path, tmp_path).settings(3)
        assert (settings.workers, settings.optimizer.at_once) == (3, expected)
        assert settings.model_dump(exclude={"workers", "optimizer"}) == experiment.model_dump(
            exclude={"workers", "optimizer"}
        )


@pytest.mark.parametrize("name", ["lightgbm", "mmoe"])
def test_what_a_run_is_asked_stands_with_its_model(name: str, tmp_path: Path) -> None:
    settings = ModelRun(name, 0, Experiment.from_dict({"model": {"name": name}}), tmp_path, tmp_path).settings(3)
    settings.check(tiny.write_table(tmp_path / "table").encoder)
