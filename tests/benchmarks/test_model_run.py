"""What a run costs when its process was stopped."""

import json
import time
from pathlib import Path

import pytest

from funnelcast.benchmarks.model_run import run_model
from funnelcast.experiments.run import train
from tests import tiny


def test_a_run_costs_what_all_its_processes_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after training, it is measured by another process."""
    table, experiment, run = tiny.write_table(tmp_path / "table"), tiny.experiment(), tmp_path / "cell"
    train(experiment, table, run / "run")
    trained = sum(json.loads(line)["seconds"] for line in (run / "run/log.jsonl").read_text().splitlines())
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    cost = run_model(experiment, table, run)["cost"]
    assert cost["training_seconds"] == pytest.approx(trained) and cost["seconds"] == pytest.approx(trained, abs=0.001)
