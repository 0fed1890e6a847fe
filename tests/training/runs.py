"""Training runs of the tiny experiment, and what must be equal when two of them are."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from funnelcast.data.progress import Progress, silent
from funnelcast.data.table import Table
from funnelcast.experiments.experiment import Experiment
from funnelcast.experiments.fit import build_model
from funnelcast.experiments.fit import trainer_of as trainer_of_model
from funnelcast.training.trainer import Trainer


def trainer_of(experiment: Experiment, table: Table, folder: Path, progress: Progress = silent) -> Trainer:
    return trainer_of_model(experiment, table, build_model(experiment, table.encoder), folder, progress)


def run(experiment: Experiment, table: Table, folder: Path, progress: Progress = silent) -> Trainer:
    """A trainer that has run to its end."""
    trainer = trainer_of(experiment, table, folder, progress)
    trainer.run(table.part("train"), table.part("dev"))
    return trainer


def log_of(folder: Path) -> list[dict[str, Any]]:
    """The lines of the log without timing."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert all(line.pop("seconds") >= 0 and line.pop("rows_per_s") >= 0 for line in lines)
    return lines


def same(a: nn.Module, b: nn.Module) -> bool:
    """Bit for bit."""
    ours, theirs = a.state_dict(), b.state_dict()
    assert ours.keys() == theirs.keys()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
