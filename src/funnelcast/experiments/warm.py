"""Compiling all kernels ahead: small jobs that run each of them."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from funnelcast.data.datasets.aliccp.prepare import prepare_aliccp
from funnelcast.data.datasets.funnels.prepare import prepare_funnel
from funnelcast.data.datasets.generator.generate import generate
from funnelcast.data.progress import Progress, silent
from funnelcast.data.table import Table
from funnelcast.errors import FunnelcastError
from funnelcast.experiments.evaluate import evaluate
from funnelcast.experiments.experiment import Experiment
from funnelcast.experiments.predict import predict_file
from funnelcast.experiments.presets import DEFAULT
from funnelcast.experiments.run import train
from funnelcast.ops import check_precision

ROWS = 6000
"""Of the generated log: enough for a dev part with conversions."""
ONE_EPOCH: dict[str, Any] = {"stages": [{"epochs": 1}]}


def warm(progress: Progress = silent) -> None:
    """Compile what preparing, training, evaluating and predicting run; what is compiled already is not again."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        generate(folder / "raw", ROWS, progress=progress)
        files = {part: folder / "raw" / f"sample_skeleton_{part}.csv" for part in ("train", "test")}
        prepare_aliccp(files["train"], files["test"], folder / "generated", progress=progress)
        prepare_funnel("oulad", folder / "oulad", progress=progress)
        _run("oulad", {"base": DEFAULT} | ONE_EPOCH, folder, progress)
        for precision in _precisions():
            settings = {"model": {"name": "man"}, "optimizer": {"precision": precision}}
            _run("generated", settings | ONE_EPOCH, folder, progress)


def _run(name: str, settings: dict[str, Any], folder: Path, progress: Progress) -> None:
    """Train on a table of `folder`, evaluate and predict."""
    table, out = Table.open(folder / name), folder / f"run {len(list(folder.iterdir()))}"
    run = train(Experiment.from_dict(settings), table, out, baselines=False, progress=progress)
    evaluate(run.bundle, table)
    predict_file(run.bundle, table.folder, out / "predictions.parquet", progress=progress)


def _precisions() -> list[str]:
    try:
        check_precision("bfloat16", torch.device("cpu"))
    except FunnelcastError:
        return ["float32"]
    return ["float32", "bfloat16"]
