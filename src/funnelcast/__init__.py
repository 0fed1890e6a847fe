"""funnelcast: probabilities along a funnel.

prepare a log, train on the table, evaluate the bundle, load it and predict:

    manifest = funnelcast.prepare("schema.toml", "table", train="log.parquet")
    report = funnelcast.doctor("table")
    run = funnelcast.train(funnelcast.Experiment(), "table", "run")
    figures = funnelcast.evaluate("run/bundle", "table")
    model = funnelcast.load("run/bundle")
    columns = model.predict(frame)
    delta = model.adapt(labelled_frame, key={"campaign": "123"})
    columns = model.with_deltas([delta]).predict(frame)

`train_seeds`, `benchmark`, `search`, `calibrate`, `export`, `predict_file`, `adapt_file`, `few_shot` and `compare` do
what the verbs of the command line do, `generate`, `prepare_aliccp`, `prepare_aliexpress`, `prepare_census` and
`prepare_funnel` what its data sets do, all in the same words. Folders and files are paths or texts.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from funnelcast.runtime.extras import require_extra
from funnelcast.runtime.garbage import paused_gc

if TYPE_CHECKING:
    from funnelcast.benchmarks.run import benchmark
    from funnelcast.benchmarks.search.run import search
    from funnelcast.callbacks.mlflow import MLflow
    from funnelcast.callbacks.tensorboard import TensorBoard
    from funnelcast.data.datasets.aliccp.prepare import prepare_aliccp
    from funnelcast.data.datasets.aliexpress.prepare import prepare_aliexpress
    from funnelcast.data.datasets.census.prepare import prepare_census
    from funnelcast.data.datasets.funnels.prepare import prepare_funnel
    from funnelcast.data.datasets.generator.generate import generate
    from funnelcast.data.table import Table
    from funnelcast.data_checks.doctor import doctor
    from funnelcast.errors import FunnelcastError
    from funnelcast.experiments.adapt import adapt_file
    from funnelcast.experiments.calibrate import calibrate
    from funnelcast.experiments.classifier import FunnelClassifier
    from funnelcast.experiments.compare import compare
    from funnelcast.experiments.evaluate import evaluate
    from funnelcast.experiments.experiment import Experiment
    from funnelcast.experiments.predict import predict_file
    from funnelcast.experiments.prepare import prepare
    from funnelcast.experiments.repeat import train_seeds
    from funnelcast.experiments.run import train
    from funnelcast.exporting.export import export
    from funnelcast.fewshot.run import few_shot
    from funnelcast.reports.diagnosis.diagnose import diagnose
    from funnelcast.reports.write import report
    from funnelcast.schema.dataset import Schema
    from funnelcast.schema.funnel import Funnel
    from funnelcast.serving.bundle import Bundle
    from funnelcast.serving.delta import Delta
    from funnelcast.serving.predictor import Predictor, load
    from funnelcast.training.adapting import Adapting
    from funnelcast.training.callback import Callback, EpochEnd, StageBegin, StepEnd, TrainBegin, TrainEnd

_HOMES = {
    "Adapting": "training.adapting",
    "Bundle": "serving.bundle",
    "Callback": "training.callback",
    "Delta": "serving.delta",
    "EpochEnd": "training.callback",
    "Experiment": "experiments.experiment",
    "Funnel": "schema.funnel",
    "FunnelClassifier": "experiments.classifier",
    "FunnelcastError": "errors",
    "MLflow": "callbacks.mlflow",
    "Predictor": "serving.predictor",
    "Schema": "schema.dataset",
    "StageBegin": "training.callback",
    "StepEnd": "training.callback",
    "Table": "data.table",
    "TensorBoard": "callbacks.tensorboard",
    "TrainBegin": "training.callback",
    "TrainEnd": "training.callback",
    "adapt_file": "experiments.adapt",
    "benchmark": "benchmarks.run",
    "calibrate": "experiments.calibrate",
    "compare": "experiments.compare",
    "diagnose": "reports.diagnosis.diagnose",
    "doctor": "data_checks.doctor",
    "evaluate": "experiments.evaluate",
    "export": "exporting.export",
    "few_shot": "fewshot.run",
    "generate": "data.datasets.generator.generate",
    "load": "serving.predictor",
    "predict_file": "experiments.predict",
    "prepare": "experiments.prepare",
    "prepare_aliccp": "data.datasets.aliccp.prepare",
    "prepare_aliexpress": "data.datasets.aliexpress.prepare",
    "prepare_census": "data.datasets.census.prepare",
    "prepare_funnel": "data.datasets.funnels.prepare",
    "report": "reports.write",
    "search": "benchmarks.search.run",
    "train": "experiments.run",
    "train_seeds": "experiments.repeat",
}

_EXTRAS = {"FunnelClassifier": ("sklearn", "sklearn")}
"""The library that a name needs, and the extra which installs it."""

__all__ = [
    "Adapting",
    "Bundle",
    "Callback",
    "Delta",
    "EpochEnd",
    "Experiment",
    "Funnel",
    "FunnelClassifier",
    "FunnelcastError",
    "MLflow",
    "Predictor",
    "Schema",
    "StageBegin",
    "StepEnd",
    "Table",
    "TensorBoard",
    "TrainBegin",
    "TrainEnd",
    "adapt_file",
    "benchmark",
    "calibrate",
    "compare",
    "diagnose",
    "doctor",
    "evaluate",
    "export",
    "few_shot",
    "generate",
    "load",
    "predict_file",
    "prepare",
    "prepare_aliccp",
    "prepare_aliexpress",
    "prepare_census",
    "prepare_funnel",
    "report",
    "search",
    "train",
    "train_seeds",
]


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used, so that the command line starts quickly."""
    if name == "__version__":
        from importlib.metadata import version

        return version("funnelcast")
    if name not in _HOMES:
        raise AttributeError(f"module 'funnelcast' has no attribute {name!r}")
    if name in _EXTRAS:
        require_extra(*_EXTRAS[name], name)
    with paused_gc():
        return getattr(importlib.import_module(f"funnelcast.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
