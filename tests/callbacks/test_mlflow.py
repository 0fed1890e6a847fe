"""Runs in a database of MLflow, read back by its own client."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import funnelcast
from funnelcast.callbacks.mlflow import flat
from funnelcast.data.table import Table
from funnelcast.errors import FunnelcastError
from funnelcast.training.callback import Callback, EpochEnd
from tests import tiny
from tests.training.runs import log_of

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of SQLAlchemy and others, in MLflow
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return tiny.write_table(tmp_path_factory.mktemp("mlflow") / "table")


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of a database beside which MLflow keeps its files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return f"sqlite:///{tmp_path}/mlflow.db"


class Raises(Callback):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def on_epoch_end(self, event: EpochEnd) -> None:
        if event.step == 5:
            raise self.error


def train(table: Table, folder: str, *callbacks: Callback) -> Any:
    experiment = tiny.experiment(checkpoint_seconds=0)
    return funnelcast.train(experiment, table, folder, baselines=False, callbacks=callbacks)


@pytest.mark.slow
def test_a_run_that_fails_twice_and_goes_on_is_one_run(table: Table, uri: str, tmp_path: Path) -> None:
    mlflow = importlib.import_module("mlflow")
    client, tracker = mlflow.MlflowClient(tracking_uri=uri), funnelcast.MLflow(uri, "tiny's", bundle=True)

    def runs() -> Any:
        return client.search_runs([client.get_experiment_by_name("tiny's").experiment_id])

    for error, status in ((OSError("no"), "FAILED"), (KeyboardInterrupt(), "KILLED")):
        with pytest.raises(type(error)):
            train(table, "ru'n", tracker, Raises(error))
        assert [run.info.status for run in runs()] == [status]
    result = train(table, "ru'n", tracker)
    (run,) = runs()
    assert (run.info.status, run.info.run_name) == ("FINISHED", "ru'n")
    assert run.data.params["stages.1.name"] == "top" and run.data.params["rows.train"] == "160"
    lines, last = log_of(Path("ru'n")), run.data.metrics
    for name, values in {
        "dev_auc/click": [line["dev"]["click"]["auc"]["estimate"] for line in lines],
        "loss/conversion": [line["loss"]["conversion"] for line in lines],
    }.items():
        history = {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, name)}
        assert history == dict(zip((2, 5, 8), values, strict=True))
    assert last["test_log_loss/click"] == result.results["test"]["click"]["log_loss"]
    folder = Path(client.download_artifacts(run.info.run_id, "", str(tmp_path)))
    assert json.loads((folder / "results.json").read_text()) == result.results
    assert funnelcast.load(folder / "bundle").bundle.fingerprint == result.bundle.fingerprint
    train(table, "second", tracker)
    assert len(runs()) == 2 and mlflow.active_run() is None


def test_an_address_that_does_not_work(table: Table, uri: str) -> None:
    with pytest.raises(FunnelcastError, match="MLflow at foo://bar: .*see that the address is right"):
        train(table, "run", funnelcast.MLflow("foo://bar"))
    with pytest.raises(FunnelcastError, match=r"MLflow at http://127.0.0.1:1 does not answer .*see that the address"):
        funnelcast.MLflow("http://127.0.0.1:1")


def test_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(FunnelcastError, match=r'MLflow callback needs .* pip install "funnelcast\[mlflow\]"'):
        funnelcast.MLflow()


def test_settings_by_dotted_names() -> None:
    nested = {"a": 1, "b": {"c": [2, {"d": None}], "e": {}}, "f": []}
    assert flat(nested) == {"a": 1, "b.c.0": 2, "b.c.1.d": None, "b.e": {}, "f": []}
