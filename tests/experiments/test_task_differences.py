"""How much tasks differ, on rows that a network's own probabilities and planted offsets made."""

import numpy as np
import pytest
import torch

from funnelcast.data.columns import Columns
from funnelcast.evaluation.logistic import sigmoid
from funnelcast.evaluation.rows import Floats
from funnelcast.evaluation.score import score
from funnelcast.experiments import adaptation_start as module
from funnelcast.experiments.adaptation_start import differences
from funnelcast.models.network import FunnelModel
from funnelcast.training.information import UNMEASURED
from tests.fewshot.tiny import bundle, network, training_rows

TASKS, ROWS = 150, 30_000


@pytest.fixture(scope="module")
def model() -> FunnelModel:
    found = network(bundle())
    with torch.no_grad():
        assert found.output.bias is not None
        found.output.bias.fill_(-0.5)
    return found


def rows_of(model: FunnelModel, stds: tuple[float, float], rows: int = ROWS) -> tuple[Columns, Floats]:
    """And their tasks."""
    drawn, rng = training_rows()[0], np.random.default_rng(1)
    taken = drawn.take(rng.integers(0, len(drawn), rows))
    log_p, _ = score(model, taken)
    p = np.exp(np.stack([log_p[:, 0], log_p[:, 1] - log_p[:, 0]], 1).astype(np.float64))
    task = rng.integers(0, TASKS, rows)
    p = sigmoid(np.log(p / (1 - p)) + rng.normal(0, stds, (TASKS, 2))[task])
    click, conversion = (rng.random(p.shape) < p).T
    labels = np.stack([click, click & conversion], 1).astype(np.uint8)
    return Columns(taken.ids, taken.numeric, labels=labels), task.astype(np.float64)


@pytest.mark.parametrize("stds", [(0.7, 0.4), (0.0, 0.9), (0.0, 0.0)])
def test_planted_offsets_are_found_again(model: FunnelModel, stds: tuple[float, float]) -> None:
    rows, task = rows_of(model, stds)
    found = differences(model, rows, task, np.ones(ROWS, np.bool_), model.parents)
    assert found == pytest.approx(stds, abs=0.12)


def test_rows_of_no_task_do_not_count(model: FunnelModel) -> None:
    (alike, task), (other, _) = rows_of(model, (0.0, 0.0)), rows_of(model, (1.5, 1.5))
    assert alike.labels is not None and other.labels is not None
    known = np.arange(ROWS) < ROWS // 2
    mixed = Columns(alike.ids, alike.numeric, labels=np.where(known[:, None], alike.labels, other.labels))
    assert max(differences(model, mixed, task, known, model.parents)) <= 0.15


def test_few_positives_tell_nothing(model: FunnelModel) -> None:
    rows, task = rows_of(model, (0.7, 0.7), 2000)
    assert rows.labels is not None
    rows.labels[np.flatnonzero(rows.labels[:, 1])[40:], 1] = 0
    assert differences(model, rows, task, np.ones(2000, np.bool_), model.parents)[1] == UNMEASURED


def test_of_many_rows_whole_tasks_are_taken(model: FunnelModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 3000)
    task = np.sort(np.random.default_rng(0).integers(0, TASKS, ROWS))
    chosen = module._whole_tasks(task, np.ones(ROWS, np.bool_))
    assert 2700 < len(chosen) <= 3000
    assert all((task == each).sum() == (task[chosen] == each).sum() for each in np.unique(task[chosen]))
