"""What adapting must know of a training, against sums over the table's rows that are written a second way."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from funnelcast.data.table import Table
from funnelcast.experiments.adaptation_start import information_of_rates, starting_of
from funnelcast.experiments.run import train
from funnelcast.models.network import TOP
from funnelcast.training.algorithms import Inner
from funnelcast.training.trainer import Trainer
from tests import tiny
from tests.training.runs import trainer_of

BY = {"by": "campaign", "tasks": 2, "inner": "top", "learning_rate": 0.3, "steps": 3}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return tiny.write_table(tmp_path_factory.mktemp("starting") / "table")


def stages(meta: dict[str, Any], *after: dict[str, Any], train: Any = "all") -> list[dict[str, Any]]:
    return [{"epochs": 1}, {"name": "meta", "train": train, "epochs": 1, "meta": meta}, *after]


def trainer(table: Table, folder: Path, **changes: Any) -> Trainer:
    """One that has not begun."""
    return trainer_of(tiny.experiment(**changes), table, folder)


def stds_of(table: Table, folder: Path, kept: float = 1.0, **changes: Any) -> list[float]:
    found = starting_of(tiny.experiment(**changes), table, trainer(table, folder, **changes), table.part("train"), kept)
    return list(found.information)


def test_of_plain_training(table: Table, tmp_path: Path) -> None:
    experiment = tiny.experiment(keep_negatives=0.5, loss={**tiny.LEARNED, "focal_gamma": 1.0})
    run = trainer_of(experiment, table, tmp_path)
    weights = run.loss_weights
    with torch.no_grad():
        next(weights.parameters()).copy_(torch.tensor([0.5, -1.0]))
    found = starting_of(experiment, table, run, table.part("train"), 0.7)
    assert found.weights == pytest.approx((0.5 * np.exp([-0.5, 1.0]) / weights.scale.numpy()).tolist(), rel=1e-6)
    assert (found.inner, found.information, found.factors, found.keep_negatives) == (None, [0.0, 0.0], {}, 0.5)
    assert found.loss == experiment.loss


def test_the_last_meta_stage_counts_and_adapts_what_it_trains(table: Table, tmp_path: Path) -> None:
    first, last = {"steps": 7, "tasks": 4}, {"inner": ["gates", "towers", "experts"], "learning_rate": 0.3}
    plain, own = {"name": "plain", "epochs": 1}, {"name": "last", "train": "top", "epochs": 1, "meta": last}
    experiment = tiny.experiment(stages=[*stages(first), own, plain])
    found = starting_of(experiment, table, trainer_of(experiment, table, tmp_path), table.part("train"), 1.0).inner
    assert isinstance(found, Inner) and found.groups == ("gates", "towers")
    assert (found.learning_rate, found.steps) == (0.3, 1)


def test_what_a_step_of_rates_tells() -> None:
    assert information_of_rates([0.4, 0.1], [-1, 0]) == pytest.approx([0.4 * 0.6, 0.4 * 0.25 * 0.75])
    assert information_of_rates([0.4, 0.1, 0.2], [-1, 0, -1]) == pytest.approx([0.24, 0.4 * 0.25 * 0.75, 0.16])
    assert information_of_rates([0.4, 0.1], [-1, -1]) == pytest.approx([0.24, 0.09])
    assert information_of_rates([0.0, 0.0, 0.0], [-1, 0, 1]) == [0, 0, 0]
    assert information_of_rates([1.0, 1.0], [-1, 0]) == [0, 0]
    assert information_of_rates([0.4, np.nan], [-1, 0]) == [pytest.approx(0.24), 0.0]
    assert information_of_rates([0.1, 0.2], [-1, 0]) == pytest.approx([0.09, 0.0])  # where few saw the first


def test_what_random_tasks_tell(table: Table, tmp_path: Path) -> None:
    """Half of a batch's share in the support; of Reptile all; of sampled negatives by the rates among what is kept."""
    click, conversion = table.label_rates("train")
    row = np.array([click * (1 - click), conversion * (1 - conversion / click)])
    settings = {"tasks": 4, "steps": 2}
    assert stds_of(table, tmp_path, stages=stages(settings)) == pytest.approx(64 / 4 / 2 * row)
    reptile = stages({**settings, "order": "reptile"})
    assert stds_of(table, tmp_path, stages=reptile) == pytest.approx(64 / 4 * row)
    kept = 0.8
    sampled = [click / kept * (1 - click / kept), conversion / kept * (1 - conversion / click)]
    assert stds_of(table, tmp_path, kept, stages=stages(settings)) == pytest.approx(64 / 4 / 2 * np.array(sampled))


@pytest.mark.parametrize(("name", "is_chain"), [("esmm", True), ("shared_bottom", False)])
def test_what_the_logits_are_of(table: Table, tmp_path: Path, name: str, is_chain: bool) -> None:
    model = {"name": name, "tower": [4], "tower_dropout": []}
    click, conversion = table.label_rates("train")
    rows = [click * (1 - click), conversion * (1 - (conversion / click if is_chain else conversion))]
    assert stds_of(table, tmp_path, model=model, stages=stages({"tasks": 4})) == pytest.approx(8 * np.array(rows))


@pytest.mark.parametrize("sampling", ["proportional", "uniform"])
@pytest.mark.parametrize(("kept", "most", "least"), [(1.0, 10, 7), (0.5, 7, 12)])
def test_what_tasks_of_a_key_tell(
    table: Table, tmp_path: Path, sampling: str, kept: float, most: int, least: int
) -> None:
    """In the mean over the tasks that are drawn: users with enough rows, whose share is that of a batch at most."""
    users = Counter(table.part("train").ids[:, 0].tolist())
    sizes = [size for user, size in users.items() if user > 0 and size >= least]
    assert len(sizes) < len(users) - 1 and min(kept * size for size in sizes) < most < max(kept * s for s in sizes)
    chances = sizes if sampling == "proportional" else [1] * len(sizes)
    mean = sum(c * min(kept * size, most) for c, size in zip(chances, sizes, strict=True)) / sum(chances)
    meta = {"by": "user", "tasks": 64 // most, "sampling": sampling, "min_rows": least, "support_share": 0.25}
    click = table.label_rates("train")[0] / kept
    assert stds_of(table, tmp_path, kept, stages=stages(meta))[0] == pytest.approx(0.25 * mean * click * (1 - click))


def test_learned_factors_are_those_of_the_best_state(table: Table, tmp_path: Path) -> None:
    """By parameter; those of loss weights, which adapting leaves, are not among them."""
    meta = {**BY, "learned": True, "adapt_loss_weights": True}
    experiment = tiny.experiment(stages=stages(meta), seed=3)
    run = trainer_of(experiment, table, tmp_path)
    run.run(table.part("train"), table.part("dev"))
    own = run.model.groups(TOP)
    run.best |= {f"rates.{i}": torch.full_like(run.best[f"rates.{i}"], i) for i in range(len(own) + 1)}
    found = starting_of(experiment, table, run, table.part("train"), 1.0).factors
    assert list(found) == list(own)
    for i, name in enumerate(own):
        assert found[name].shape == own[name].shape and (found[name] == i).all()


def test_a_run_keeps_it_in_its_bundle(table: Table, tmp_path: Path) -> None:
    """And adapting goes on from there: with the inner loop of the training, unless told otherwise."""
    experiment = tiny.experiment(stages=stages({**BY, "learned": True})[1:])  # of which some epoch is the best
    run = train(experiment, table, tmp_path / "run")
    starting = run.bundle.starting
    assert starting is not None and starting.inner is not None and starting.factors
    assert (starting.inner.learning_rate, starting.inner.steps, starting.inner.learned) == (0.3, 3, True)
    assert min(starting.information) > 0 and min(starting.weights) > 0
    assert any((factor != 1).any() for factor in starting.factors.values())
    second = train(experiment, table, tmp_path / "run").bundle.starting
    assert second is not None and replace(second, factors={}) == replace(starting, factors={})
    assert second.factors.keys() == starting.factors.keys()
    assert all(torch.equal(factor, second.factors[name]) for name, factor in starting.factors.items())


@pytest.mark.parametrize(("by", "measured"), [("campaign", True), ("user", False)])
def test_how_tasks_differ_is_asked_where_the_network_does_not_read_the_key(
    table: Table, tmp_path: Path, by: str, measured: bool
) -> None:
    changes: dict[str, Any] = {"stages": stages({**BY, "by": by})}
    found = starting_of(
        tiny.experiment(**changes), table, trainer(table, tmp_path, **changes), table.part("train"), 1.0
    )
    assert len(found.differences) == (2 if measured else 0)
