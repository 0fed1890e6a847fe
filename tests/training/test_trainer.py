"""What a run learns, keeps, freezes, logs and refuses."""

import copy
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from funnelcast.data.table import Table
from funnelcast.errors import DataError, FunnelcastError
from funnelcast.evaluation.funnel import measure_funnel
from funnelcast.evaluation.score import score
from funnelcast.training.losses import UncertaintyWeights
from tests import tiny
from tests.training.runs import log_of, run, same, trainer_of

FAST = {"batch_size": 64, "micro_batch": 24, "learning_rate": 0.03}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return tiny.write_table(tmp_path_factory.mktemp("trainer") / "table")


def test_learned_loss_weights_move_and_stand_in_the_log(table: Table, tmp_path: Path) -> None:
    trainer = run(tiny.experiment(optimizer=FAST), table, tmp_path)
    assert isinstance(trainer.loss_weights, UncertaintyWeights)
    s = trainer.loss_weights.log_variance.tolist()
    assert all(0 < abs(each) < 0.01 * 9 + 1e-6 for each in s)  # nine steps of at most the rate
    logged = [line["task_weights"] for line in log_of(tmp_path)]
    (best,) = [line["task_weights"] for line in log_of(tmp_path) if line["is_best"]][-1:]
    assert list(best.values()) == pytest.approx([math.exp(-each) / 2 for each in s], rel=1e-6)
    assert logged[0] != logged[1] != logged[2]


def test_the_second_stage_starts_from_the_best_state_and_leaves_the_frozen_alone(table: Table, tmp_path: Path) -> None:
    first: Any = {"epochs": 4, "patience": 4, "metric": "log_loss"}
    one = run(tiny.experiment(optimizer=FAST, stages=[first]), table, tmp_path / "one")
    second = {"train": "top", "epochs": 1, "learning_rate": 1e-9}
    two = run(tiny.experiment(optimizer=FAST, stages=[first, second]), table, tmp_path / "two")
    last_is_best = [line["is_best"] for line in log_of(tmp_path / "one")]
    assert last_is_best[-1] is False, "the data no longer tells the best state from the last"
    for name, parameter in one.model.named_parameters():
        other = two.model.get_parameter(name)
        if name.startswith(("embedding.", "trunk.experts.")):
            assert torch.equal(parameter, other), name
        else:
            torch.testing.assert_close(other, parameter, rtol=1e-6, atol=1e-7)  # three steps of 1e-9


@pytest.mark.slow
def test_a_stage_that_only_makes_it_worse_leaves_the_state_it_began_with(table: Table, tmp_path: Path) -> None:
    first: Any = {"epochs": 2, "patience": 2, "metric": "log_loss"}
    one = run(tiny.experiment(optimizer=FAST, stages=[first]), table, tmp_path / "one")
    wild = first | {"name": "wild", "learning_rate": 3.0}
    two = run(tiny.experiment(optimizer=FAST, stages=[first, wild]), table, tmp_path / "two")
    assert not any(line["is_best"] for line in log_of(tmp_path / "two") if line["stage"] == "wild")
    for module in ("model", "loss_weights"):
        before, after = (getattr(trainer, module).state_dict() for trainer in (one, two))
        assert all(torch.equal(before[name], after[name]) for name in before)
    alone = trainer_of(tiny.experiment(optimizer=FAST, stages=[wild]), table, tmp_path / "three")
    alone.model.load_state_dict(one.model.state_dict())
    alone.run(table.part("train"), table.part("dev"), trained=True)
    assert all(torch.equal(one.model.state_dict()[n], t) for n, t in alone.model.state_dict().items())


def test_the_second_stage_moves_all_that_it_trains(table: Table, tmp_path: Path) -> None:
    stages: Any = [{"epochs": 1}, {"train": "top", "epochs": 3, "metric": "log_loss"}]
    slow = {**FAST, "learning_rate": 0.003}
    one = run(tiny.experiment(optimizer=slow, stages=stages[:1]), table, tmp_path / "one").model
    two = run(tiny.experiment(optimizer=slow, stages=stages), table, tmp_path / "two").model
    assert log_of(tmp_path / "two")[-1]["is_best"], "the second stage no longer finds a better state"
    moved = {name for name, p in one.named_parameters() if not torch.equal(p, two.get_parameter(name))}
    assert moved == set(one.groups(["gates", "attention", "towers"]))


def test_the_best_state_by_the_dev_metric_is_kept(table: Table, tmp_path: Path) -> None:
    stages: Any = [{"epochs": 12, "patience": 2, "metric": "auc_click"}]
    model = run(tiny.experiment(optimizer=FAST, stages=stages), table, tmp_path).model
    lines, dev = log_of(tmp_path), table.part("dev")
    values = [line["dev"]["click"]["auc"]["estimate"] for line in lines]
    best = int(np.argmax(values))
    assert len(values) == best + 3 < 12, "the data no longer stops a run early"
    assert [line["is_best"] for line in lines] == [v > max(values[:i], default=0) for i, v in enumerate(values)]
    assert dev.labels is not None
    measured = measure_funnel(table.schema.funnel, dev.labels, *score(model, dev), dev.weight)
    assert {name: m.as_dict() for name, m in measured.outputs.items()} == lines[best]["dev"]


@pytest.mark.parametrize("workers", [1, 2])
def test_ids_that_no_batch_has_decay_to_the_end_of_the_best_epoch(tmp_path: Path, workers: int) -> None:
    table = tiny.write_table(tmp_path / "table", encoder=tiny.fitted_encoder(users=tiny.USERS + 8))
    stages: Any = [{"epochs": 3, "patience": 3}]
    decayed = FAST | {"l2": 0.0, "embedding_decay": 0.5, "weight_decay": 0.1}
    experiment = tiny.experiment(optimizer=decayed, stages=stages, workers=workers)
    never, start = slice(tiny.USERS + 3, tiny.USERS + 9), trainer_of(experiment, table, tmp_path / "start").model
    model = run(experiment, table, tmp_path / "run").model
    steps = 3 * (1 + max(i for i, line in enumerate(log_of(tmp_path / "run")) if line["is_best"]))
    before, after = (each.embedding.all_tables()[0].blocks()["user"].detach()[never] for each in (start, model))
    assert before.shape[0] == 6 and (before != 0).all()
    torch.testing.assert_close(after, before * (1 - 0.03 * 0.5) ** steps, rtol=1e-5, atol=0)


def test_the_log(table: Table, tmp_path: Path) -> None:
    """The logged loss is the training rows' own: here by a model that does not move."""
    still = {"batch_size": 160, "learning_rate": 1e-30}
    model = tiny.MODEL | {"tower_dropout": []}
    stages: Any = [{"epochs": 1, "name": "first"}, {"epochs": 1, "train": ["towers"], "name": "second"}]
    trainer = run(tiny.experiment(optimizer=still, model=model, stages=stages), table, tmp_path)
    part = table.part("train")
    assert part.labels is not None
    train = measure_funnel(table.schema.funnel, part.labels, *score(trainer.model, part), part.weight).outputs
    first, second = log_of(tmp_path)
    assert list(first) == ["stage", "epoch", "trained", "rows", "loss", "task_weights", "dev", "is_best"]
    assert (first["stage"], first["epoch"], first["rows"], first["is_best"]) == ("first", 0, 160, True)
    assert (second["stage"], second["epoch"], second["trained"]) == ("second", 0, ["towers"])
    assert first["trained"] == ["embedding", "pooling", "experts", "gates", "attention", "towers"]
    for name in ("click", "conversion"):
        assert first["loss"][name] == pytest.approx(train[name].log_loss, rel=1e-5)
    assert list(first["dev"]) == ["click", "conversion", "conversion_given_click"]
    assert (tmp_path / "log.jsonl").read_bytes().endswith(b"\n")


@pytest.mark.slow
def test_the_global_seed_changes_no_bit_and_workers_the_order_of_sums(table: Table, tmp_path: Path) -> None:
    runs = []
    for number, workers in enumerate((1, 1, 2, 3, 3)):
        torch.manual_seed(number)
        runs.append(run(tiny.experiment(workers=workers), table, tmp_path / str(number)).model)
    assert same(runs[0], runs[1]) and same(runs[3], runs[4])
    assert log_of(tmp_path / "0") == log_of(tmp_path / "1") and log_of(tmp_path / "3") == log_of(tmp_path / "4")
    for other in runs[2:4]:
        for ours, theirs in zip(runs[0].parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    assert not same(runs[0], run(tiny.experiment(seed=1), table, tmp_path / "seed").model)


@pytest.mark.parametrize(
    ("batch_size", "what"), [(64, "the loss is .* in batch 1 of epoch 0"), (160, "dev rows are not finite")]
)
def test_divergence_is_told_with_its_fix(table: Table, tmp_path: Path, batch_size: int, what: str) -> None:
    broken = tiny.experiment(optimizer={"batch_size": batch_size, "learning_rate": 1e30})
    with pytest.raises(FunnelcastError, match=what + ".*diverged; lower optimizer.learning_rate"):
        run(broken, table, tmp_path)


def test_dev_rows_of_one_class(table: Table, tmp_path: Path) -> None:
    dev = copy.deepcopy(table.part("dev"))
    assert dev.labels is not None
    dev = dataclasses.replace(dev, labels=np.zeros_like(dev.labels))
    with pytest.raises(DataError, match="auc_mean is undefined on the 80 dev rows: they lack reached rows"):
        trainer_of(tiny.experiment(), table, tmp_path).run(table.part("train"), dev)


def test_a_stage_that_trains_nothing_is_refused_before_the_first_begins(table: Table, tmp_path: Path) -> None:
    model = {"name": "shared_bottom", "expert": [4], "tower": [4], "tower_dropout": []}
    stages: Any = [{"epochs": 1}, {"name": "second", "train": ["gates", "attention"]}]
    with pytest.raises(FunnelcastError, match="stage 'second' trains gates, attention, and the model has none"):
        run(tiny.experiment(model=model, stages=stages), table, tmp_path)
    assert not (tmp_path / "log.jsonl").exists()


def test_a_stage_may_train_the_embedding_alone(table: Table, tmp_path: Path) -> None:
    stages: Any = [{"train": ["embedding"], "epochs": 1}]
    fixed: Any = {"weighting": "fixed"}
    before = trainer_of(tiny.experiment(), table, tmp_path / "none").model
    after = run(tiny.experiment(stages=stages, loss=fixed), table, tmp_path / "run").model
    moved = {name for name, p in before.named_parameters() if not torch.equal(p, after.get_parameter(name))}
    assert moved == set(before.groups(["embedding"]))


def test_a_finished_run_is_only_read_again(table: Table, tmp_path: Path) -> None:
    first = run(tiny.experiment(), table, tmp_path)
    calls: list[str] = []
    second = run(tiny.experiment(), table, tmp_path, lambda stage, *_: calls.append(stage))
    assert same(first.model, second.model) and not calls
    assert json.loads((tmp_path / "checkpoint/progress.json").read_text())["done"] is True


def test_a_dead_step_is_said_after_its_first_epoch(table: Table, tmp_path: Path) -> None:
    """Towers whose weights are all 0, and stay so, tell rows from each other no more."""
    lines: list[str] = []
    stages: Any = [{"epochs": 1, "train": ["embedding"], "metric": "log_loss"}]
    dead = trainer_of(tiny.experiment(stages=stages), table, tmp_path, lambda *call: lines.append(call[-1]))
    with torch.no_grad():
        for parameter in dead.model.groups(["towers"]).values():
            parameter.zero_()
    dead.run(table.part("train"), table.part("dev"))
    (line,) = log_of(tmp_path)
    assert [text.split(":")[0] for text in line["warnings"]] == ["click", "conversion"]  # 27 rows reached the first
    assert all("one prediction for all rows (0." in text and "another seed" in text for text in line["warnings"])
    epoch, *warnings = lines[-1].splitlines()
    assert epoch.startswith("dev AUC: ") and "WARNING" not in epoch
    assert [text.split(":")[:2] for text in warnings] == [["  WARNING", " click"], ["  WARNING", " conversion"]]
    assert all(len(text) < 100 and text.endswith(" (what to do: log.jsonl)") for text in warnings)
    run(tiny.experiment(), table, tmp_path / "healthy")
    assert not any("warnings" in line for line in log_of(tmp_path / "healthy"))
