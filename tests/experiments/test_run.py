"""A run: claimed by one experiment, trained once, measured after training and not before."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funnelcast.data.files import alone_in
from funnelcast.data.loader import Loader
from funnelcast.data.table import Table
from funnelcast.errors import FunnelcastError
from funnelcast.experiments.evaluate import evaluate
from funnelcast.experiments.experiment import Experiment
from funnelcast.experiments.fit import training_rates
from funnelcast.experiments.run import Run, train
from funnelcast.serving.bundle import Bundle
from funnelcast.training.trainer import Trainer
from proofs.killed import content
from tests import tiny
from tests.kill import kills


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return tiny.write_table(tmp_path_factory.mktemp("run") / "table")


@pytest.fixture(scope="module")
def finished(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tiny.experiment(), table, tmp_path_factory.mktemp("run") / "run")


def test_what_a_run_leaves(finished: Run, table: Table) -> None:
    names = sorted(path.name for path in finished.folder.iterdir())
    assert names == ["bundle", "experiment.json", "log.jsonl", "results.json"]
    bundle = Bundle.load(finished.folder / "bundle")
    assert bundle.fingerprint == finished.bundle.fingerprint
    assert Experiment.from_dict(bundle.experiment) == tiny.experiment()
    assert (bundle.protocol, bundle.rates) == (table.protocol, table.label_rates("train"))
    assert bundle.metrics == finished.results == json.loads((finished.folder / "results.json").read_text())
    for part in ("dev", "test"):
        outputs = finished.results[part]
        alone = {name: {k: v for k, v in metrics.items() if k != "baselines"} for name, metrics in outputs.items()}
        assert evaluate(bundle, table, part)["outputs"] == alone


def test_a_finished_run_is_not_trained_again(finished: Run, table: Table) -> None:
    def stamps() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in finished.folder.rglob("*") if path.is_file()}

    before, calls = stamps(), []
    changes: Any = {"workers": 2, "checkpoint_seconds": 1, "data": "elsewhere"}
    second = train(tiny.experiment(**changes), table, finished.folder, progress=lambda *a: calls.append(a))
    assert not calls and stamps() == before
    assert second.bundle.fingerprint == finished.bundle.fingerprint
    assert second.results == finished.results


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 1}, "seed is 0 there, 1 here"),
        ({"optimizer": {}}, "optimizer.learning_rate is 0.01 there, 0.001 here"),
        ({"model": tiny.MODEL | {"expert": [9, 4]}}, "model.expert.0 is 8 there, 9 here"),
        ({"model": tiny.MODEL | {"expert": [8]}}, r"model.expert is \[8, 4\] there, \[8\] here"),
    ],
)
def test_another_experiment_in_the_same_folder(finished: Run, table: Table, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(FunnelcastError, match=f"a run of another experiment: {said}; choose another folder"):
        train(tiny.experiment(**changes), table, finished.folder)


def test_a_run_goes_on_whose_claim_lacks_a_newer_setting(finished: Run, table: Table, tmp_path: Path) -> None:
    """And is of another experiment where that has not its default."""
    shutil.copytree(finished.folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "experiment.json"
    claim = json.loads(path.read_text())
    for name in ("weight_decay", "embedding_decay"):
        del claim["experiment"]["optimizer"][name]
    path.write_text(json.dumps(claim))
    assert train(tiny.experiment(), table, tmp_path).results == finished.results
    settings = tiny.experiment().optimizer.model_dump() | {"weight_decay": 0.5}
    with pytest.raises(FunnelcastError, match=r"optimizer\.weight_decay is 0\.0 there, 0\.5 here"):
        train(tiny.experiment(optimizer=settings), table, tmp_path)
    claim["experiment"]["optimizer"]["gone"] = 1
    path.write_text(json.dumps(claim))
    with pytest.raises(FunnelcastError, match=r"optimizer\.gone is 1 there, null here"):
        train(tiny.experiment(), table, tmp_path)


def test_another_table_or_start_in_the_same_folder(finished: Run, table: Table, tmp_path: Path) -> None:
    other = tiny.write_table(tmp_path / "table", seed=1)
    with pytest.raises(FunnelcastError, match="holds a run on another table; choose another folder"):
        train(tiny.experiment(), other, finished.folder)
    with pytest.raises(FunnelcastError, match="holds a run that started from another model; choose another folder"):
        train(tiny.experiment(), table, finished.folder, init=finished.bundle)


def test_an_interrupted_run_goes_on_to_the_same_bundle(finished: Run, table: Table, tmp_path: Path) -> None:
    for call in (2, 3):
        calls = iter(range(call))

        def progress(*_: Any, left: Any = calls, **__: Any) -> None:
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            train(tiny.experiment(), table, tmp_path / "run", progress=progress)
        assert not (tmp_path / "run/bundle").exists()
        assert json.loads((tmp_path / "run/checkpoint/progress.json").read_text())["seconds"] > 0
    resumed = train(tiny.experiment(workers=2), table, tmp_path / "run")
    assert resumed.bundle.fingerprint == finished.bundle.fingerprint
    assert resumed.results == finished.results
    with pytest.raises(FunnelcastError, match="holds a run of another"):
        train(tiny.experiment(seed=1), table, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_killed_before_any_operation_on_files_it_goes_on_to_the_same_files(table: Table, tmp_path: Path) -> None:
    experiment = tiny.experiment(stages=[{"epochs": 1}, {"name": "top", "train": "top", "epochs": 1}])
    folder = tmp_path / "run"
    train(experiment, table, tmp_path / "whole", baselines=False)
    whole, met = content(tmp_path / "whole"), set()

    def resume() -> None:
        train(experiment, table, folder, baselines=False)

    for number in kills(lambda: shutil.rmtree(folder, ignore_errors=True), resume):
        met |= {path.name.partition(".partial")[0] for path in folder.rglob(".*")}
        assert not (folder / "bundle").exists() or content(folder / "bundle") == content(tmp_path / "whole/bundle")
        resume()
        assert content(folder) == whole, number
    assert met == {".experiment.json", ".checkpoint", ".bundle", ".results.json"}


def test_what_two_kills_left_of_a_claim_is_removed(finished: Run, table: Table, tmp_path: Path) -> None:
    """The first one met nothing but the claim, so that the second run wrote it again."""
    for name in ("experiment.json", ".experiment.json.partial-4194304"):
        (tmp_path / name).write_bytes((finished.folder / "experiment.json").read_bytes())
    train(tiny.experiment(), table, tmp_path)
    assert content(tmp_path) == content(finished.folder)


def test_parts_that_were_not_measured_are_measured_later(finished: Run, table: Table, tmp_path: Path) -> None:
    assert list(train(tiny.experiment(), table, tmp_path, parts=("dev",)).results) == ["dev"]
    later = train(tiny.experiment(), table, tmp_path)
    assert later.results == finished.results == later.bundle.metrics == Bundle.load(tmp_path / "bundle").metrics
    assert content(tmp_path) == content(finished.folder)


def test_two_processes_do_not_share_a_folder(table: Table, tmp_path: Path) -> None:
    train(tiny.experiment(), table, tmp_path)
    with alone_in(tmp_path), pytest.raises(FunnelcastError, match="another process is at work in"):
        train(tiny.experiment(), table, tmp_path)


def test_the_test_rows_are_not_touched_before_training_ends(
    tmp_path: Path, finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MTReclib stops early by the test file. Here its files are away while the trainer runs."""
    table = tiny.write_table(tmp_path / "table")
    plain, hidden = table.folder / "test", tmp_path / "hidden"
    trained = Trainer.run

    def without_test_rows(self: Trainer, *parts: Any, **options: Any) -> Any:
        assert hidden.is_dir() and not plain.exists()
        try:
            return trained(self, *parts, **options)
        finally:
            hidden.rename(plain)

    monkeypatch.setattr(Trainer, "run", without_test_rows)
    plain.rename(hidden)
    found = train(tiny.experiment(), Table.open(table.folder), tmp_path / "run")
    assert found.results == finished.results
    assert found.bundle.fingerprint == finished.bundle.fingerprint


def test_other_test_rows_change_the_test_results_alone(tmp_path: Path, finished: Run) -> None:
    table = tiny.write_table(tmp_path / "table", test=60)
    other = train(tiny.experiment(), table, tmp_path / "run")
    assert other.bundle.fingerprint == finished.bundle.fingerprint
    assert other.results["dev"] == finished.results["dev"]
    assert other.results["test"] != finished.results["test"]


def test_a_table_without_test_rows(tmp_path: Path) -> None:
    table = tiny.write_table(tmp_path / "table", test=0)
    assert list(train(tiny.experiment(), table, tmp_path / "run").results) == ["dev"]


def test_the_rates_of_the_kept_rows(tmp_path: Path) -> None:
    table = tiny.write_table(tmp_path / "table", train=20000)
    columns = table.part("train")
    loader = Loader.of(columns, 64, 0, keep_negatives=0.3)
    assert loader.chosen is not None and columns.labels is not None
    labels = columns.labels[loader.chosen.numpy()].astype(float)
    labels[labels == 255] = np.nan
    assert training_rates(tiny.experiment(), table) == table.label_rates("train")
    # Rows whose click was not observed are all kept, which moves the share of conversions by their few percent.
    np.testing.assert_allclose(
        training_rates(tiny.experiment(keep_negatives=0.3), table), np.nanmean(labels, 0), rtol=0.1
    )


def test_negatives_are_sampled_only_where_all_are_known(table: Table, tmp_path: Path) -> None:
    with pytest.raises(
        FunnelcastError, match=r"keep_negatives = 0\.5 needs the first step observed .* and \d+ rows of"
    ):
        train(tiny.experiment(keep_negatives=0.5), table, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_with_other_things_is_left_alone(table: Table, tmp_path: Path) -> None:
    own = tmp_path / "own" / "bundle"
    own.mkdir(parents=True)
    (own / "mine.txt").write_text("x")
    with pytest.raises(FunnelcastError, match="own is not empty and holds no run; choose another folder with --out"):
        train(tiny.experiment(), table, own.parent)
    assert (own / "mine.txt").read_text() == "x" and [path.name for path in own.parent.iterdir()] == ["bundle"]
    killed = tmp_path / "killed"
    killed.mkdir()
    (killed / ".experiment.json.partial-999999999").write_text("half")
    train(tiny.experiment(), table, killed)
