"""Averaged parameters: against the sum by loops, what is measured and kept of them, and runs that are stopped."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from funnelcast.data.table import Table
from funnelcast.evaluation.funnel import measure_funnel
from funnelcast.evaluation.score import score
from funnelcast.training.averaging import EVERY, Average
from tests import tiny
from tests.training.runs import log_of, run, same
from tests.training.test_resume import at_call, interrupt

FAST = {"batch_size": 16, "learning_rate": 0.03}
STAGES: Any = [{"epochs": 2, "patience": 2, "average": 0.9}, {"train": "top", "average": 0.5, "epochs": 1}]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return tiny.write_table(tmp_path_factory.mktemp("averaging") / "table", train=140, dev=50)


def state_after(step: int) -> torch.Tensor:
    return torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(step))


def test_the_average_is_the_weighted_sum_of_every_eighth_state() -> None:
    parameter = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    average, seen = Average([parameter], 0.97), []
    for step in range(400):
        with torch.no_grad():
            parameter.copy_(state_after(step))
        average.update()
        seen += [state_after(step)] if step % EVERY == 0 else []
        decays = [min(0.97**EVERY, n / (n + 9)) for n in range(len(seen))]
        weights = [(1 - d) * torch.tensor(decays[i + 1 :]).prod().item() for i, d in enumerate(decays)]
        assert sum(weights) == pytest.approx(1)
        expected = sum((w * state for w, state in zip(weights, seen, strict=True)), torch.zeros(3).double())
        torch.testing.assert_close(average.values[0], expected, rtol=1e-6, atol=1e-7)
    with average.in_place():
        assert torch.equal(parameter, average.values[0])
    assert torch.equal(parameter, state_after(399))


def test_what_is_measured_and_kept_is_the_average_and_training_goes_on_without_it(table: Table, tmp_path: Path) -> None:
    one = {"epochs": 1, "average": 0.9}
    stages: Any = {"average": one, "plain": {"epochs": 1}, "longer": one | {"epochs": 2, "patience": 2}}
    experiments = {name: tiny.experiment(optimizer=FAST, stages=[stage]) for name, stage in stages.items()}
    runs = {name: run(experiment, table, tmp_path / name) for name, experiment in experiments.items()}
    logs = {name: log_of(tmp_path / name) for name in runs}
    assert logs["average"][0]["loss"] == logs["plain"][0]["loss"] and logs["average"] == logs["longer"][:1]
    assert logs["average"][0]["dev"] != logs["plain"][0]["dev"]
    dev = table.part("dev")
    assert dev.labels is not None
    measured = measure_funnel(table.schema.funnel, dev.labels, *score(runs["average"].model, dev), dev.weight)
    assert {name: m.as_dict() for name, m in measured.outputs.items()} == logs["average"][0]["dev"]


@pytest.mark.slow
def test_a_stopped_run_goes_on_bit_for_bit(table: Table, tmp_path: Path) -> None:
    experiment = tiny.experiment(optimizer=FAST, stages=STAGES)
    whole = run(experiment, table, tmp_path / "whole")
    for call in (0, 7, 9, 10, 12, 20, 25):
        stopped = tmp_path / str(call)
        with pytest.raises(KeyboardInterrupt):
            run(experiment, table, stopped, at_call(call, interrupt))
        assert same(run(experiment, table, stopped).model, whole.model), call
        assert log_of(stopped) == log_of(tmp_path / "whole"), call
