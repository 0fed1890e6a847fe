"""From scratch: the rates where nothing can be judged, more than that where there are rows to learn from."""

import numpy as np
import pytest

from funnelcast.data.columns import Columns
from funnelcast.evaluation.auc import auc
from funnelcast.experiments.experiment import Experiment
from funnelcast.fewshot import from_scratch as scratch_module
from funnelcast.fewshot.from_scratch import Scratch
from funnelcast.fewshot.tasks import TaskOutput
from funnelcast.models.network import FunnelModel, NetworkRecipe
from funnelcast.training.losses import LossConfig
from funnelcast.training.stage_run import StageRun
from funnelcast.training.stages import Stage
from proofs.simulators.campaigns import encoder
from tests.fewshot.tiny import CLICK, CONVERSION, MODEL, tasks


def scratch(target: TaskOutput, **changes: object) -> Scratch:
    recipe = Experiment.from_dict({"model": MODEL | changes}).model
    assert isinstance(recipe, NetworkRecipe)
    return Scratch(recipe, encoder(), target, LossConfig(), stage=Stage(epochs=8, patience=3))


def labelled(rows: int, positives: int) -> Columns:
    """Clicked rows, of which some converted."""
    ids = np.random.default_rng(0).integers(1, 11, (rows, 8), np.int32)
    labels = np.stack([np.ones(rows), np.arange(rows) < positives], 1).astype(np.uint8)
    return Columns(ids, np.empty((rows, 0), np.float32), labels=labels)


@pytest.mark.parametrize("head", ["chain", "independent"])
@pytest.mark.parametrize(("rows", "positives"), [(0, 0), (16, 0), (16, 1), (16, 16)])
def test_rows_that_cannot_tell_when_to_stop_give_their_rate(head: str, rows: int, positives: int) -> None:
    log_p, _ = scratch(CONVERSION, head=head)(labelled(rows, positives), labelled(5, 0))
    expected = (positives + 0.5) / (rows + 1)
    if head == "independent":  # a ratio to the rate of clicks, cut at 1
        expected = min(expected / ((rows + 0.5) / (rows + 1)), 1.0)
    assert np.exp(log_p) == pytest.approx(np.full(5, expected), rel=1e-5)


@pytest.mark.slow
def test_many_rows_teach_it_to_rank() -> None:
    """1,000 rows whose label is whether the first field is above 5."""
    rng = np.random.default_rng(1)
    ids = rng.integers(1, 11, (1400, 8), np.int32)
    labels = np.stack([ids[:, 0] > 5, np.zeros(1400)], 1).astype(np.uint8)
    rows = Columns(ids, np.empty((1400, 0), np.float32), labels=labels)
    log_p, _ = scratch(CLICK)(rows.take(np.arange(1000)), rows.take(np.arange(1000, 1400)))
    assert auc(labels[1000:, 0], log_p) > 0.95


def test_it_ends_in_the_state_that_held_out_rows_like_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses that fall once, then rise: three more passes are waited for, and forgotten."""
    losses, passes, states = iter([3.0, 2.0, 2.5, 2.1, 2.2]), list[int](), list[str]()

    def train(self: Scratch, stage_run: StageRun, epoch: int) -> None:
        passes.append(epoch)
        run(self, stage_run, epoch)

    def loss(self: Scratch, model: FunnelModel, held: Columns) -> float:
        states.append(model.fingerprint)
        return next(losses)

    run = Scratch._pass
    monkeypatch.setattr(Scratch, "_pass", train)
    monkeypatch.setattr(Scratch, "_loss", loss)
    monkeypatch.setattr(scratch_module, "Unadapted", lambda model, target: lambda support, query: model.fingerprint)
    found: object = scratch(CLICK)(tasks(CLICK, support=300)[0].support, labelled(5, 0))
    assert passes == [0, 1, 2, 3] and len(set(states)) == 5
    assert found == states[1]


def test_two_positives_are_enough_to_learn_from_one_and_stop_by_the_other() -> None:
    rows = labelled(16, 2)
    held = scratch(CONVERSION)._held_out(rows)
    assert held.sum() == 3 and held[:2].sum() == 1


def test_the_same_rows_give_the_same_network() -> None:
    task = tasks(CLICK, support=300)[0]
    first, second = (scratch(CLICK)(task.support, task.query)[0] for _ in range(2))
    assert np.array_equal(first, second)
