"""Runs in MLflow."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from funnelcast.callbacks.figures import figures_of_epoch, figures_of_part
from funnelcast.errors import FunnelcastError
from funnelcast.runtime.extras import require_extra
from funnelcast.training.callback import Callback, EpochEnd, TrainBegin, TrainEnd

FOLDER: Final = "funnelcast.folder"
"""The tag by which a run that goes on is found."""
_FIX: Final = (
    "see that the address is right and the server runs, then train once more: the run goes on from its last checkpoint"
)
AT_ONCE: Final = 100
"""Settings, at most, that MLflow takes at a time."""


class MLflow(Callback):
    """Writes settings, metrics by epoch and results to an MLflow server or database.

    A run that goes on from a checkpoint goes on as the same run of MLflow. One that fails is FAILED there, and KILLED
    after Ctrl-C. MLflow's settings of a process, such as its active run, stay as they are. Needs the extra `mlflow`.
    """

    def __init__(self, uri: str | None = None, experiment: str | None = None, *, bundle: bool = False) -> None:
        """Create a callback.

        Args:
            uri: Of the tracking server or database, such as `http://localhost:5000` or `sqlite:///mlflow.db`; MLflow's
                own setting (`MLFLOW_TRACKING_URI`) by default.
            experiment: That of MLflow which the runs belong to; `MLFLOW_EXPERIMENT_NAME`, else `funnelcast`.
            bundle: Whether the bundle is uploaded when a run ends.

        Raises:
            FunnelcastError: Where MLflow is missing, or cannot use the address.
        """
        self.experiment = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "funnelcast"
        self.bundle, self.uri = bundle, uri
        with self._explained():
            _require_server(uri or _library().get_tracking_uri())
        self._client: Any = None
        self._run, self._step = "", 0

    def on_train_begin(self, event: TrainBegin) -> None:
        self._run, self._step = "", 0
        with self._explained():
            self._client = _library().MlflowClient(tracking_uri=self.uri)
            found = self._client.get_experiment_by_name(self.experiment)
            own = self._client.create_experiment(self.experiment) if found is None else found.experiment_id
            folder = str(event.folder.resolve()).replace("'", "_")
            known = self._client.search_runs([own], f"tags.`{FOLDER}` = '{folder}'", max_results=1)
            if known and event.is_resumed:
                self._run = known[0].info.run_id
                self._client.update_run(self._run, status="RUNNING")
                return
            tags = {FOLDER: folder, "mlflow.source.name": "funnelcast"}
            self._run = self._client.create_run(own, run_name=event.label, tags=tags).info.run_id
            rows = {f"rows.{part}": number for part, number in event.rows.items()}
            param = _library("mlflow.entities").Param
            values = [param(name, str(value)) for name, value in (rows | flat(event.settings)).items()]
            for start in range(0, len(values), AT_ONCE):
                self._client.log_batch(self._run, params=values[start : start + AT_ONCE])

    def on_epoch_end(self, event: EpochEnd) -> None:
        with self._explained():
            self._log(figures_of_epoch(event), event.step)

    def on_train_end(self, event: TrainEnd) -> None:
        with self._explained():
            for part in event.results.keys() - {"dev"}:
                self._log(figures_of_part(part, event.results[part]), self._step)
            self._client.log_dict(self._run, event.results, "results.json")
            if self.bundle:
                self._client.log_artifacts(self._run, str(event.folder / "bundle"), "bundle")
            self._client.set_terminated(self._run)

    def on_exception(self, error: BaseException) -> None:
        with self._explained():
            if self._run:
                self._client.set_terminated(self._run, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")

    def _log(self, figures: dict[str, float], step: int) -> None:
        self._step, now = step, int(time.time() * 1000)
        metric = _library("mlflow.entities").Metric
        metrics = [metric(name, value, now, step) for name, value in figures.items()]
        self._client.log_batch(self._run, metrics=metrics)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raises FunnelcastError for what MLflow cannot do."""
        try:
            yield
        except _library().MlflowException as error:
            where = self.uri or _library().get_tracking_uri()
            raise FunnelcastError(f"MLflow at {where}: {error}; {_FIX}") from error


def _require_server(uri: str) -> None:
    """Raises FunnelcastError where nothing answers, which MLflow would find out after minutes of trying."""
    requests = _library("requests")
    try:
        if uri.startswith(("http://", "https://")):
            requests.head(uri, timeout=10)
    except requests.exceptions.SSLError:
        return  # MLflow has settings for certificates
    except requests.exceptions.ConnectionError as error:
        raise FunnelcastError(f"MLflow at {uri} does not answer ({error}); {_FIX}") from None


def _library(name: str = "mlflow") -> Any:
    return require_extra(name, "mlflow", "the MLflow callback")


def flat(settings: Any, name: str = "") -> dict[str, Any]:
    """Settings by their dotted names, as in `stages.0.epochs`; empty lists and tables as they are."""
    below = dict(enumerate(settings)) if isinstance(settings, list) else settings
    if not isinstance(below, dict) or not below:
        return {name: settings}
    inner = (flat(value, f"{name}.{own}".lstrip(".")) for own, value in below.items())
    return {key: value for found in inner for key, value in found.items()}
