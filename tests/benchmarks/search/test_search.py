"""A search from its file to the winners; cut short anywhere, it comes to the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from optuna import Study

from funnelcast.benchmarks.search import study
from funnelcast.benchmarks.search.run import search
from funnelcast.benchmarks.search.study import run_trial
from funnelcast.benchmarks.suite import Suite
from funnelcast.data.table import Table
from funnelcast.errors import ConfigError, FunnelcastError
from funnelcast.experiments.experiment import Experiment
from tests import tiny
from tests.benchmarks.suites import BOTTOM, write_suite

SPACE = '[space]\n"optimizer.learning_rate" = {low = 1e-3, high = 1e-1, log = true}\n"model.tower" = [[4], [8]]\n'


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_table(tmp_path_factory.mktemp("search") / "table").folder


def write_search(folder: Path, space: str = SPACE, **changes: Any) -> Path:
    """Four trials each of two networks."""
    path = write_suite(folder, **{"trials": 4, "seeds": 2, **changes})
    path.write_text(path.read_text() + "\n" + space)
    return path


def test_winners_are_the_best_trials_and_can_be_run(table: Path, tmp_path: Path) -> None:
    found = search(write_search(tmp_path, data=str(table)), None, tmp_path / "out")
    for own in found["models"].values():
        values = [trial["value"] for trial in own["trials"] if trial["state"] == "complete"]
        assert len(own["trials"]) == 4 and own["best"]["value"] == max(values)
    assert found["models"]["MMoE"]["trials"][0]["settings"] == {"optimizer.learning_rate": 0.001, "model.tower": [4]}
    suite, experiments = Suite.read(tmp_path / "out/best/suite.toml")
    best = found["models"]["MMoE"]["best"]["settings"]
    assert experiments["MMoE"].optimizer.learning_rate == best["optimizer.learning_rate"]
    assert experiments["MMoE"].model.model_dump(mode="json")["tower"] == best["model.tower"]
    assert experiments["MMoE"].model.name == "mmoe" and (suite.seeds, suite.data) == (2, table)
    assert all(isinstance(experiment, Experiment) for experiment in experiments.values())
    assert not list((tmp_path / "out/trials").glob("*/*"))


def test_the_winners_are_compared_on_the_splits_that_the_search_names(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "run_trial", lambda *arguments: 0.5)
    search(write_search(tmp_path, splits=3, split_by="campaign"), table, tmp_path / "out", trials=1)
    suite, _ = Suite.read(tmp_path / "out/best/suite.toml")
    assert (suite.splits, suite.split_by) == (3, "campaign")


def test_several_data_sets_need_one_to_be_chosen(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "run_trial", lambda *arguments: 0.5)
    path = write_search(tmp_path, sources=["oulad", "hotel"])
    with pytest.raises(ConfigError) as caught:
        search(path, None, tmp_path / "out")
    said = "sources: a search is on one data set, and oulad, hotel are named"
    fix = 'write source = "oulad" in its place, or give a table with --data TABLE'
    assert f"{said}; {fix}" in str(caught.value) and not (tmp_path / "out").exists()
    assert search(path, table, tmp_path / "out", trials=1)["models"]["MMoE"]["best"]["value"] == 0.5


@pytest.mark.slow
@pytest.mark.parametrize("cut", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_cut_short_it_goes_on_to_the_same(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    path, calls = write_search(tmp_path), iter(range(100))
    whole = search(path, table, tmp_path / "whole")

    def stopped(*arguments: Any) -> float:
        if next(calls) == cut:
            raise KeyboardInterrupt
        return run_trial(*arguments)

    monkeypatch.setattr(study, "run_trial", stopped)
    with pytest.raises(KeyboardInterrupt):
        search(path, table, tmp_path / "cut")
    resumed, ran = search(path, table, tmp_path / "cut"), next(calls)
    assert ran == 9  # eight, and the one that was cut twice

    def figures_of(found: dict[str, Any]) -> list[Any]:
        return [[(t["value"], t["settings"]) for t in own["trials"]] for own in found["models"].values()]

    assert figures_of(resumed) == figures_of(whole)


def test_finished_trials_are_not_run_again_and_more_can_be_asked_for(table: Path, tmp_path: Path) -> None:
    path, ran = write_search(tmp_path), list[tuple[str, int]]()
    for trials in (2, 3):
        search(path, table, tmp_path / "out", trials=trials, on_trial=lambda m, n, v: ran.append((m, n)))
    assert [n for m, n in ran if m == "MMoE"] == [0, 1, 2] and len(ran) == 6


def test_a_grid_and_some_of_the_rows(table: Path, tmp_path: Path) -> None:
    space = '[space]\n"model.tower" = [[4], [8], [4, 4]]\n'
    path = write_search(tmp_path, space, method="grid", train_rows=100, trials=30)
    found = search(path, table, tmp_path / "out")
    towers = [trial["settings"]["model.tower"] for trial in found["models"]["MMoE"]["trials"]]
    assert towers == [[4], [8], [4, 4]]
    sample = Table.open(tmp_path / "out/sample")
    assert (sample.rows("train"), sample.rows("dev"), sample.rows("test")) == (100, 80, 0)


def test_a_grid_that_was_killed_before_all_of_it_was_laid_out_is_tried_whole(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = '[space]\n"model.tower" = [[4], [8]]\n"optimizer.batch_size" = [32, 64, 128]\n'
    path = write_search(tmp_path, space, method="grid", trials=6, models={"B": "models/bottom.toml"})
    laid_out = iter(range(100))
    enqueue = Study.enqueue_trial

    def killed(*arguments: Any, **options: Any) -> None:
        if next(laid_out) == 2:
            raise KeyboardInterrupt
        enqueue(*arguments, **options)

    monkeypatch.setattr(Study, "enqueue_trial", killed)
    monkeypatch.setattr(study, "run_trial", lambda *arguments: 0.5)
    with pytest.raises(KeyboardInterrupt):
        search(path, table, tmp_path / "out")
    tried = [tuple(t["settings"].values()) for t in search(path, table, tmp_path / "out")["models"]["B"]["trials"]]
    assert tried == [(tower, size) for tower in ([4], [8]) for size in (32, 64, 128)]


def test_a_trial_that_cannot_be_trained_is_told_and_counts(table: Path, tmp_path: Path) -> None:
    space = '[space]\n"optimizer.learning_rate" = [1e-3, 1e30]\n'
    found = search(write_search(tmp_path, space, method="grid"), table, tmp_path / "out")
    good, bad = found["models"]["MMoE"]["trials"]
    assert good["state"] == "complete" and bad["state"] == "fail" and "diverged" in bad["why"]
    assert not list((tmp_path / "out/trials").glob("*/*"))


@pytest.mark.parametrize(("error", "why"), [(MemoryError(), "MemoryError"), (RuntimeError("CUDA"), "CUDA")])
def test_a_trial_that_runs_out_of_memory_is_told_and_counts(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, why: str
) -> None:
    def died(*arguments: Any) -> float:
        raise error

    monkeypatch.setattr(study, "run_trial", died)
    found = search(write_search(tmp_path), table, tmp_path / "out", trials=1)
    assert [(t["state"], t["why"]) for t in found["models"]["MMoE"]["trials"]] == [("fail", why)]


@pytest.mark.parametrize(("error", "tries"), [(SystemExit, 2), (KeyboardInterrupt, 3)])
def test_a_trial_that_ends_the_search_twice_has_failed_unless_somebody_stopped_it(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], tries: int
) -> None:
    path = write_search(tmp_path, models={"B": "models/bottom.toml"})
    ran = list[float]()

    def dying(experiment: Experiment, *arguments: Any) -> float:
        ran.append(experiment.optimizer.learning_rate)
        if len(ran) <= tries:
            raise error
        return 0.5

    monkeypatch.setattr(study, "run_trial", dying)
    for _ in range(tries):
        with pytest.raises(error):
            search(path, table, tmp_path / "out", trials=2)
    trials = search(path, table, tmp_path / "out", trials=2)["models"]["B"]["trials"]
    assert len(trials) == 2 and trials[0]["settings"]["optimizer.learning_rate"] == 0.001 and len(set(ran[:tries])) == 1
    assert [t["state"] for t in trials] == (["fail", "complete"] if error is SystemExit else ["complete"] * 2)
    assert "died twice" in trials[0].get("why", "") or error is KeyboardInterrupt


def test_a_hopeless_trial_is_stopped(table: Path, tmp_path: Path) -> None:
    space = '[space]\n"optimizer.learning_rate" = [1e-2, 2e-2, 3e-2, 4e-2, 5e-2, 1e-9]\n'
    path = write_search(tmp_path, space, method="grid", trials=6, metric="log_loss", models={"B": "models/b.toml"})
    (tmp_path / "models/b.toml").write_text(BOTTOM.replace("{epochs = 1}", "{epochs = 6, patience = 6}"))
    states = [trial["state"] for trial in search(path, table, tmp_path / "out")["models"]["B"]["trials"]]
    assert states[-1] == "pruned" and states.count("complete") >= 4


def test_what_is_refused(table: Path, tmp_path: Path) -> None:
    path = write_search(tmp_path)
    search(path, table, tmp_path / "out", trials=1)
    path.write_text(path.read_text().replace("high = 1e-1", "high = 2e-1"))
    with pytest.raises(FunnelcastError, match="holds another search"):
        search(path, table, tmp_path / "out", trials=1)
    path.write_text(path.read_text().replace('name = "small"', 'name = "small"\nmetric = "auc_clicks"'))
    with pytest.raises(FunnelcastError, match="did you mean 'auc_click'"):
        search(path, table, tmp_path / "new")


def test_another_table_is_refused_though_the_sample_is_there(table: Path, tmp_path: Path) -> None:
    path, other = write_search(tmp_path, train_rows=100), tiny.write_table(tmp_path / "other", seed=1).folder
    search(path, table, tmp_path / "out", trials=1)
    with pytest.raises(FunnelcastError, match="or one on another table"):
        search(path, other, tmp_path / "out", trials=1)


def test_a_folder_of_something_else_is_left_alone(table: Path, tmp_path: Path) -> None:
    trial = tmp_path / "out/trials/mmoe"
    trial.mkdir(parents=True)
    (tmp_path / "out/results.json").write_text("{}")
    with pytest.raises(FunnelcastError, match="is not empty and holds no search; choose another folder with --out"):
        search(write_search(tmp_path), table, tmp_path / "out")
    assert (tmp_path / "out/results.json").read_text() == "{}" and trial.is_dir()
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_boosters_are_not_stopped(table: Path, tmp_path: Path) -> None:
    path = write_search(tmp_path, '[spaces.B]\n"model.num_leaves" = [2, 3]\n', models={"B": "models/b.toml"}, trials=2)
    (tmp_path / "models/b.toml").write_text('model = {name = "lightgbm", rounds = 2, patience = 2}\n')
    states = [trial["state"] for trial in search(path, table, tmp_path / "out")["models"]["B"]["trials"]]
    assert states == ["complete", "complete"]
