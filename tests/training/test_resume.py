"""A run that was stopped anywhere goes on as if it had not been: bit for bit, in every stage."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from funnelcast.data.progress import Progress
from funnelcast.data.table import Table
from funnelcast.training.checkpoint import load_checkpoint
from funnelcast.training.trainer import Trainer
from tests import tiny
from tests.training.runs import log_of, run, same, trainer_of

CALLS = 12
"""Reports of a whole run: after each of three batches and at the end of each of three epochs."""


class Killed(BaseException):
    """Stands for a kill: nothing of the trainer catches it."""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return tiny.write_table(tmp_path_factory.mktemp("resume") / "table", train=140, dev=50)


@pytest.fixture(scope="module")
def undisturbed(table: Table, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, list[dict[str, Any]]]:
    folder, calls = tmp_path_factory.mktemp("undisturbed"), []
    trainer = run(tiny.experiment(), table, folder, lambda stage, *_: calls.append(stage))
    assert len(calls) == CALLS
    assert [calls.count(f"{stage}, epoch {n}") for stage, n in (("general", 1), ("general", 2), ("top", 1))] == [4] * 3
    return trainer, log_of(folder)


def at_call(number: int, act: Any) -> Progress:
    """A progress that acts in its `number`-th call."""
    left = iter(range(number))

    def progress(stage: str, done: int, total: int, unit: str, note: str = "") -> None:
        if next(left, None) is None:
            act()

    return progress


def raise_killed() -> None:
    raise Killed


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "workers"), [(0.0, 1), (0.0, 2), (3600.0, 1)])
@pytest.mark.parametrize("call", range(CALLS))
def test_a_kill(
    table: Table, tmp_path: Path, undisturbed: tuple[Trainer, Any], call: int, seconds: float, workers: int
) -> None:
    """With a checkpoint after each batch, and after each epoch only: what was logged since is logged again."""
    experiment = tiny.experiment(checkpoint_seconds=seconds, workers=workers)
    with pytest.raises(Killed):
        run(experiment, table, tmp_path, at_call(call, raise_killed))
    resumed = run(experiment, table, tmp_path)
    assert same(resumed.model, undisturbed[0].model)
    assert log_of(tmp_path) == undisturbed[1]


@pytest.mark.slow
@pytest.mark.parametrize("act", [interrupt, terminate])
@pytest.mark.parametrize("call", range(CALLS))
def test_ctrl_c_leaves_a_checkpoint_of_that_very_batch(
    table: Table, tmp_path: Path, undisturbed: tuple[Trainer, Any], call: int, act: Any
) -> None:
    trainer, before = (
        trainer_of(tiny.experiment(), table, tmp_path, at_call(call, act)),
        signal.getsignal(signal.SIGINT),
    )
    with pytest.raises(KeyboardInterrupt):
        trainer.run(table.part("train"), table.part("dev"))
    assert signal.getsignal(signal.SIGINT) is before
    saved = load_checkpoint(tmp_path / "checkpoint")
    assert saved is not None
    epochs, batches = divmod(call, 4)
    expected = (epochs % 2, batches + 1) if batches < 3 else (epochs % 2 + 1, 0)
    assert (saved[1].stage, saved[1].epoch, saved[1].batch) == (epochs // 2, *expected)
    resumed = run(tiny.experiment(), table, tmp_path)
    assert same(resumed.model, undisturbed[0].model)
    assert log_of(tmp_path) == undisturbed[1]


def test_stopped_after_every_single_batch(table: Table, tmp_path: Path, undisturbed: tuple[Trainer, Any]) -> None:
    for _ in range(CALLS):
        try:
            resumed = run(tiny.experiment(), table, tmp_path, at_call(0, interrupt))
        except KeyboardInterrupt:
            continue
        break
    else:
        resumed = run(tiny.experiment(), table, tmp_path)
    assert same(resumed.model, undisturbed[0].model)
    assert log_of(tmp_path) == undisturbed[1]


def test_the_second_ctrl_c_does_not_wait_for_the_batch(table: Table, tmp_path: Path) -> None:
    def twice() -> None:
        interrupt()
        interrupt()

    with pytest.raises(KeyboardInterrupt):
        run(tiny.experiment(), table, tmp_path, at_call(1, twice))
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adam", "adam_dense"])
def test_sampled_negatives_decays_and_both_optimizers(table: Table, tmp_path: Path, name: str) -> None:
    optimizer = {"name": name, "batch_size": 32, "clip": 0.5, "weight_decay": 1.0, "embedding_decay": 2.0}
    experiment = tiny.experiment(keep_negatives=0.7, optimizer=optimizer)
    whole = run(experiment, table, tmp_path / "whole")
    for call in (1, 3, 8):
        with pytest.raises(KeyboardInterrupt):
            run(experiment, table, tmp_path / str(call), at_call(call, interrupt))
        assert same(run(experiment, table, tmp_path / str(call)).model, whole.model)
        assert log_of(tmp_path / str(call)) == log_of(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("correction", ["ipw", "doubly_robust"])
def test_corrected_losses_over_a_plain_stage_and_a_meta_stage(table: Table, tmp_path: Path, correction: str) -> None:
    """With what imputing has learned, and the effective sample in the log."""
    stages = [{"epochs": 1}, {"name": "meta", "epochs": 1, "meta": {"learning_rate": 0.2}}]
    loss = {**tiny.LEARNED, "correction": correction, "largest_weight": 3.0, "given_parent_weight": 0.5}
    experiment = tiny.experiment(model=tiny.MODEL | {"loss_space": "both"}, loss=loss, stages=stages)
    whole = run(experiment, table, tmp_path / "whole")
    lines = log_of(tmp_path / "whole")
    assert all(line["effective_sample"]["click"] is None for line in lines) and len(lines) == 2
    assert all(0.3 < line["effective_sample"]["conversion"] < 1 for line in lines)
    learned = whole.loss_weights.imputing
    assert (learned is not None) == (correction == "doubly_robust")
    assert learned is None or (learned[:, 1].all() and not learned[:, 0].any())
    for call in (1, 5):
        with pytest.raises(KeyboardInterrupt):
            run(experiment, table, tmp_path / str(call), at_call(call, interrupt))
        resumed = run(experiment, table, tmp_path / str(call))
        assert same(resumed.model, whole.model) and same(resumed.loss_weights, whole.loss_weights)
        assert log_of(tmp_path / str(call)) == lines


META: dict[str, dict[str, Any]] = {
    "halves": {"learning_rate": 0.2, "learned": True},
    "by a kept column": {"by": "campaign", "inner": "top", "steps": 2, "adapt_loss_weights": True},
    "by a feature": {"by": "user", "tasks": 3, "order": "reptile", "steps": 2, "sampling": "uniform"},
}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("meta", META.values(), ids=META.keys())
def test_meta_stages(table: Table, tmp_path: Path, meta: dict[str, Any], workers: int) -> None:
    """With what tasks told so far, learned step sizes, and the plain stage after it."""
    stages = [{"epochs": 2, "patience": 2, "meta": meta}, {"name": "top", "train": "top", "epochs": 1}]
    experiment = tiny.experiment(stages=stages)
    whole = run(experiment, table, tmp_path / "whole")
    lines = log_of(tmp_path / "whole")
    assert [line["meta"]["tasks"] > 0 for line in lines if "meta" in line] == [True, True] and len(lines) == 3
    second = tiny.experiment(stages=stages, workers=workers)
    for call in (1, 2, 5, 6):
        with pytest.raises(KeyboardInterrupt):
            run(second, table, tmp_path / str(call), at_call(call, interrupt))
        resumed = run(second, table, tmp_path / str(call))
        assert same(resumed.model, whole.model) and same(resumed.rates, whole.rates)
        assert log_of(tmp_path / str(call)) == lines
    assert bool(len(whole.rates)) == meta.get("learned", False)
