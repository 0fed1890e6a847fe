"""funnelcast: probabilities along a funnel.

prepare a log, train on the table, evaluate the bundle, load it and predict:

    manifest = funnelcast.prepare(funnelcast.Schema.from_toml("schema.toml"), Path("table"), train=Path("log.parquet"))
    run = funnelcast.train(funnelcast.Experiment(), funnelcast.Table.open("table"), Path("run"))
    figures = funnelcast.evaluate(run.bundle, funnelcast.Table.open("table"))
    columns = funnelcast.load("run/bundle").predict(frame)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from funnelcast.data.log.prepare import prepare
    from funnelcast.data.table import Table
    from funnelcast.errors import FunnelcastError
    from funnelcast.experiments.evaluate import evaluate
    from funnelcast.experiments.experiment import Experiment
    from funnelcast.experiments.run import train
    from funnelcast.schema.dataset import Schema
    from funnelcast.schema.funnel import Funnel
    from funnelcast.serving.bundle import Bundle
    from funnelcast.serving.predictor import Predictor, load

_HOMES = {
    "Bundle": "serving.bundle",
    "Experiment": "experiments.experiment",
    "Funnel": "schema.funnel",
    "FunnelcastError": "errors",
    "Predictor": "serving.predictor",
    "Schema": "schema.dataset",
    "Table": "data.table",
    "evaluate": "experiments.evaluate",
    "load": "serving.predictor",
    "prepare": "data.log.prepare",
    "train": "experiments.run",
}

__all__ = [
    "Bundle",
    "Experiment",
    "Funnel",
    "FunnelcastError",
    "Predictor",
    "Schema",
    "Table",
    "evaluate",
    "load",
    "prepare",
    "train",
]


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used, so that the command line starts quickly."""
    if name not in _HOMES:
        raise AttributeError(f"module 'funnelcast' has no attribute {name!r}")
    return getattr(importlib.import_module(f"funnelcast.{_HOMES[name]}"), name)
