"""Callbacks: what they are told and when, that they change no bit, stop a run, and what happens when they fail."""

import traceback
from pathlib import Path
from typing import Any

import pytest

import funnelcast
from funnelcast.data.table import Table
from funnelcast.errors import FunnelcastError
from funnelcast.training.callback import Callback, Callbacks, EpochEnd, StageBegin, StepEnd, TrainBegin, TrainEnd
from funnelcast.training.trainer import Trainer
from tests import tiny
from tests.training.runs import log_of, same

HOOKS = ("on_train_begin", "on_stage_begin", "on_step", "on_epoch_end", "on_train_end")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return tiny.write_table(tmp_path_factory.mktemp("callback") / "table")


class Recorder(Callback):
    """Keeps all that it is told; `act` may stop or raise."""

    def __init__(self, act: Any = lambda hook, event: None) -> None:
        self.events: list[tuple[str, Any]] = []
        self.act = act

    def on_train_begin(self, event: TrainBegin) -> None:
        self._record("on_train_begin", event)

    def on_stage_begin(self, event: StageBegin) -> None:
        self._record("on_stage_begin", event)

    def on_step(self, event: StepEnd) -> bool | None:
        return self._record("on_step", event)

    def on_epoch_end(self, event: EpochEnd) -> bool | None:
        return self._record("on_epoch_end", event)

    def on_train_end(self, event: TrainEnd) -> None:
        self._record("on_train_end", event)

    def _record(self, hook: str, event: Any) -> bool | None:
        self.events.append((hook, event))
        answer: bool | None = self.act(hook, event)
        return answer

    def of(self, hook: str) -> list[Any]:
        return [event for name, event in self.events if name == hook]

    def on_exception(self, error: BaseException) -> None:
        self.events.append(("on_exception", error))


def train(table: Table, folder: Path, *callbacks: Callback, **changes: Any) -> Any:
    return funnelcast.train(tiny.experiment(**changes), table, folder, baselines=False, callbacks=callbacks)


def test_what_is_told_and_when_and_that_no_bit_changes(table: Table, tmp_path: Path) -> None:
    recorder = Recorder()
    run = train(table, tmp_path / "followed", recorder)
    epoch = ["on_step"] * 3 + ["on_epoch_end"]
    stages = ["on_stage_begin", *epoch, *epoch, "on_stage_begin", *epoch]
    assert [hook for hook, _ in recorder.events] == ["on_train_begin", *stages, "on_train_end"]
    assert same(run.bundle.model, train(table, tmp_path / "alone").bundle.model)
    assert log_of(tmp_path / "followed") == log_of(tmp_path / "alone")
    (begin,), (end,) = recorder.of("on_train_begin"), recorder.of("on_train_end")
    rows = {"train": 160, "dev": 80, "test": 80}
    settings = tiny.experiment().model_dump(mode="json")
    assert begin == TrainBegin(run.folder, "tiny", settings, rows, ("click", "conversion"), False)
    assert end == TrainEnd(run.folder, run.results) and (end.folder / "bundle").is_dir()
    general, top = recorder.of("on_stage_begin")
    assert general == StageBegin("general", 2, 2, "auc_mean", 0.01, 160, 3, 0, 0)
    assert (top.stage, top.epochs, top.epoch, top.step) == ("top", 1, 0, 6)


def test_the_numbers_of_steps_and_epochs(table: Table, tmp_path: Path) -> None:
    recorder = Recorder()
    stages: Any = [{"epochs": 2, "patience": 2}, {"name": "top", "train": "top", "epochs": 1, "learning_rate": 0.02}]
    train(table, tmp_path, recorder, stages=stages)
    steps: list[StepEnd] = recorder.of("on_step")
    epochs: list[EpochEnd] = recorder.of("on_epoch_end")
    assert [(s.stage, s.epoch, s.batch, s.step) for s in steps[:4]] == [
        ("general", 0, 0, 0), ("general", 0, 1, 1), ("general", 0, 2, 2), ("general", 1, 0, 3),
    ]  # fmt: skip
    assert [s.step for s in steps] == list(range(9)) and [e.step for e in epochs] == [2, 5, 8]
    assert [s.rows for s in steps[:3]] == [64, 128, 160]
    assert all(s.rows_per_s == s.rows / s.seconds for s in steps)
    assert (
        [s.learning_rate for s in steps] == [0.01] * 6 + [0.02] * 3 == [e.learning_rate for e in epochs for _ in "123"]
    )
    for line, epoch in zip(log_of(tmp_path), epochs, strict=True):
        keys = {"stage", "epoch", "task_weights", "dev", "is_best", "rows"}
        assert {key: getattr(epoch, key) for key in keys} == {key: line[key] for key in keys}
        assert epoch.losses == line["loss"] and epoch.warnings == tuple(line.get("warnings", ()))
        assert epoch.score == pytest.approx(sum(epoch.dev[step]["auc"]["estimate"] for step in epoch.losses) / 2)
        own = [s for s in steps if (s.stage, s.epoch) == (epoch.stage, epoch.epoch)]
        low, high = (f(s.losses["click"] for s in own) for f in (min, max))
        assert low <= epoch.losses["click"] <= high and epoch.seconds >= own[-1].seconds - 1e-3


def test_a_callback_that_follows_no_steps_costs_none_of_them(table: Table, tmp_path: Path, monkeypatch: Any) -> None:
    class Epochs(Callback):
        seen = 0

        def on_epoch_end(self, event: EpochEnd) -> None:
            self.seen += 1

    monkeypatch.setattr(Trainer, "_step_end", None)
    follower = Epochs()
    train(table, tmp_path, follower)
    assert follower.seen == 3


@pytest.mark.parametrize("hook", ["on_step", "on_epoch_end"])
def test_a_callback_stops_the_run_which_keeps_its_best_state(table: Table, tmp_path: Path, hook: str) -> None:
    recorder = Recorder(lambda name, event: name == hook and event.step == 1 + (hook == "on_epoch_end"))
    run = train(table, tmp_path, Callback(), recorder, Callback())
    assert [e.step for e in recorder.of("on_epoch_end")] == [1 + (hook == "on_epoch_end")]
    (line,) = log_of(tmp_path)
    assert line["rows"] == (128 if hook == "on_step" else 160)
    assert line["dev"]["click"]["auc"] == run.results["dev"]["click"]["auc"]
    assert len(recorder.of("on_train_end")) == 1 and len(recorder.of("on_stage_begin")) == 1
    assert train(table, tmp_path, recorder).results == run.results and len(recorder.of("on_train_begin")) == 1


@pytest.mark.parametrize("hook", HOOKS)
def test_an_exception_says_where_and_the_run_goes_on(table: Table, tmp_path: Path, hook: str) -> None:
    def fail(name: str, event: Any) -> None:
        if name == hook and getattr(event, "step", 4) > 3:
            raise ZeroDivisionError("mine")

    failing, follower = Recorder(fail), Recorder()
    with pytest.raises(ZeroDivisionError, match="mine") as raised:
        train(table, tmp_path, failing, checkpoint_seconds=0)
    assert failing.events[-1] == ("on_exception", raised.value)
    assert f"in Recorder.{hook}; the same call goes on" in "".join(traceback.format_exception(raised.value))
    run = train(table, tmp_path, follower, checkpoint_seconds=0)
    assert same(run.bundle.model, train(table, tmp_path / "alone").bundle.model)
    assert log_of(tmp_path) == log_of(tmp_path / "alone")
    first = {"on_step": [4, 5, 6, 7, 8], "on_epoch_end": [6, 7, 8], "on_stage_begin": [6, 7, 8]}
    if hook in first:
        assert [event.step for event in follower.of("on_step")] == first[hook]
        assert follower.of("on_train_begin")[0].is_resumed and follower.of("on_stage_begin")[0].step == first[hook][0]


def test_an_exception_of_training_reaches_the_callbacks(table: Table, tmp_path: Path) -> None:
    class Bad(Callback):
        def on_exception(self, error: BaseException) -> None:
            raise OSError("no disk")

    recorder = Recorder()
    with pytest.raises(FunnelcastError, match="diverged") as raised:
        train(table, tmp_path, Bad(), recorder, optimizer={"batch_size": 64, "learning_rate": 1e30})
    assert recorder.events[-1] == ("on_exception", raised.value)
    assert raised.value.__notes__ == ["Bad.on_exception failed too: OSError('no disk')"]


def test_what_is_no_callback_is_refused(table: Table, tmp_path: Path) -> None:
    wrong: Any = [(Callback(), Recorder), (print,)]
    for given, said in zip(
        wrong, ("callbacks.1 .* write Recorder()", "callbacks.0 .*print.* give objects"), strict=True
    ):
        with pytest.raises(FunnelcastError, match=said):
            train(table, tmp_path, *given)
    assert not list(tmp_path.iterdir()) and not Callbacks([Callback()]).follows_steps


def test_names_of_runs(tmp_path: Path) -> None:
    labels = [TrainBegin(tmp_path / name, "x", {}, {}, (), False).label for name in ("census", "census/seed-3")]
    assert labels == ["census", "census/seed-3"]


def test_boosted_trees_begin_and_end(table: Table, tmp_path: Path) -> None:
    recorder = Recorder()
    experiment = funnelcast.Experiment.from_dict({"model": {"name": "lightgbm", "rounds": 2}})
    funnelcast.train(experiment, table, tmp_path, baselines=False, callbacks=[recorder])
    assert [hook for hook, _ in recorder.events] == ["on_train_begin", "on_train_end"]
