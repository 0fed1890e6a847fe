"""Event files, read back by TensorBoard's own reader."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

import funnelcast
from funnelcast.cli.main import app
from funnelcast.data.table import Table
from funnelcast.errors import FunnelcastError
from funnelcast.training.callback import Callback, StepEnd
from tests import tiny
from tests.training.runs import log_of


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return tiny.write_table(tmp_path_factory.mktemp("tensorboard") / "table")


def train(table: Table, folder: Path, *callbacks: Callback) -> Any:
    experiment = tiny.experiment(checkpoint_seconds=0)
    return funnelcast.train(experiment, table, folder, baselines=False, callbacks=callbacks)


def read(folder: Path) -> dict[str, dict[int, float]]:
    """Values by tag and step."""
    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    reader.Reload()
    return {tag: {e.step: e.value for e in reader.Scalars(tag)} for tag in reader.Tags()["scalars"]}


class Fails(Callback):
    def on_step(self, event: StepEnd) -> None:
        if event.step == 4:
            raise OSError("no more")


def test_the_values_of_a_run_that_fails_and_goes_on(table: Table, tmp_path: Path) -> None:
    board = funnelcast.TensorBoard(tmp_path / "logs", every=2)
    with pytest.raises(OSError, match="no more"):
        train(table, tmp_path / "run", board, Fails())
    run = train(table, tmp_path / "run", board)
    (folder,) = (tmp_path / "logs").iterdir()
    found, lines, ends = read(folder), log_of(tmp_path / "run"), (2, 5, 8)
    assert folder.name == "run" and list(found["step_loss/click"]) == [0, 2, 4, 6, 8]
    for tag, values in {
        "loss/click": [line["loss"]["click"] for line in lines],
        "dev_auc/conversion": [line["dev"]["conversion"]["auc"]["estimate"] for line in lines],
        "dev_log_loss/conversion_given_click": [line["dev"]["conversion_given_click"]["log_loss"] for line in lines],
        "task_weight/click": [line["task_weights"]["click"] for line in lines],
        "learning_rate": [0.01] * 3,
    }.items():
        assert found[tag] == pytest.approx(dict(zip(ends, values, strict=True)), rel=1e-6), tag
    assert found["test_log_loss/click"] == pytest.approx({8: run.results["test"]["click"]["log_loss"]}, rel=1e-6)
    assert found["rows_per_s"].keys() == set(ends) and "dev_positives/click" not in found


def test_a_run_that_is_made_anew_hides_what_was_there(table: Table, tmp_path: Path) -> None:
    board = funnelcast.TensorBoard(tmp_path / "logs", every=0)
    train(table, tmp_path / "run", board)
    experiment = tiny.experiment(stages=[{"epochs": 1}])
    (tmp_path / "run").rename(tmp_path / "before")
    funnelcast.train(experiment, table, tmp_path / "run", baselines=False, callbacks=[board])
    found = read(tmp_path / "logs/run")
    assert list(found["loss/click"]) == [2] and "step_loss/click" not in found


def test_the_command_line_writes_seeds_apart(table: Table, tmp_path: Path) -> None:
    experiment = tmp_path / "tree.toml"
    experiment.write_text('model = {name = "lightgbm", rounds = 2}')
    board = ("--tensorboard", str(tmp_path / "logs"), "--no-baselines", "--json")
    arguments = ["train", str(experiment), "--data", str(table.folder), "--seeds", "2", "--out", str(tmp_path / "two")]
    result = CliRunner().invoke(app, [*arguments, *board])
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["seeds"] == [0, 1]
    for seed in (0, 1):
        results = json.loads((tmp_path / f"two/seed-{seed}/results.json").read_text())
        value = read(tmp_path / f"logs/two/seed-{seed}")["test_log_loss/click"]
        assert value == pytest.approx({0: results["test"]["click"]["log_loss"]}, rel=1e-6)


def test_what_is_wrong_is_said_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FunnelcastError, match="every = -1 is negative; give 0 for no steps"):
        funnelcast.TensorBoard(tmp_path, every=-1)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(FunnelcastError, match=r'TensorBoard callback needs .* pip install "funnelcast\[tensorboard\]"'):
        funnelcast.TensorBoard(tmp_path)
