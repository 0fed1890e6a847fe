"""What boosters learn and from which rows, what a run keeps, logs and refuses."""

import dataclasses
import json
import math
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
import torch

from funnelcast.boosting.trees import Constant, Trees
from funnelcast.data.columns import UNOBSERVED, Columns, Ragged
from funnelcast.data.encoder import InputSpec, ListSpec
from funnelcast.data.files import new_folder
from funnelcast.data.loader import Loader
from funnelcast.errors import DataError, FunnelcastError
from funnelcast.evaluation.auc import auc
from funnelcast.evaluation.funnel import measure_funnel
from funnelcast.evaluation.score import score
from funnelcast.schema.funnel import Funnel
from tests import tiny
from tests.boosting.fitted import fitted
from tests.data.listed import FUNNEL, INPUTS, draw
from tests.training.runs import log_of

CHAIN = Funnel.parse("click; conversion after click")
PARTS = draw(2000, 1), draw(300, 2)
BAGGED: dict[str, Any] = {"bagging_fraction": 0.5, "feature_fraction": 0.5}


def tiny_parts() -> tuple[InputSpec, tuple[Columns, Columns]]:
    encoder = tiny.fitted_encoder()
    train, dev = (tiny.encoded(tiny.draw_log(rows, rows), encoder) for rows in (8000, 800))
    return encoder.inputs, (train, dev)


@pytest.mark.parametrize("ids", ["categorical", "target_statistics"])
@pytest.mark.parametrize("loss_space", ["entire", "given_parent"])
def test_a_process_is_learned(ids: str, loss_space: str, tmp_path: Path) -> None:
    inputs, parts = tiny_parts()
    model = fitted(tmp_path, inputs, CHAIN, parts, ids=ids, loss_space=loss_space, rounds=60)
    rows = tiny.encoded(tiny.draw_log(3000, 7), tiny.fitted_encoder())
    assert rows.labels is not None
    found = measure_funnel(CHAIN, rows.labels, *score(model, rows), rows.weight).outputs
    assert found["click"].auc.estimate > 0.6 and found["conversion_given_click"].auc.estimate > 0.72
    assert all(found[name].normalised_entropy < 0.98 for name in CHAIN.names)
    assert all(0.9 < m.observed_over_predicted < 1.1 for m in found.values())


def of_noise(rows: int, seed: int) -> Columns:
    """Labels that follow nothing, and as many ids as a fifth of the training rows."""
    rng = np.random.default_rng(seed)
    click = rng.random(rows) < 0.5
    labels = np.stack([click, click & (rng.random(rows) < 0.5)], 1).astype(np.uint8)
    lists = [Ragged(2 * np.arange(rows + 1), rng.integers(1, 401, 2 * rows).astype(np.int32)) for _ in range(2)]
    users = rng.integers(1, 401, (rows, 1)).astype(np.int32)
    return Columns(users, np.empty((rows, 0), np.float32), dict(zip(("tags", "history"), lists, strict=True)), labels)


@pytest.mark.parametrize("changes", [{}, {"ids": "target_statistics"}, {"loss_space": "given_parent"}])
def test_nothing_is_learned_of_noise(changes: dict[str, Any], tmp_path: Path) -> None:
    """By 50 trees on ids of five rows each. With the rows' own labels in their rates, the normalised entropy of a click
    is 1.26, of a conversion given its click 3."""
    lists = (ListSpec("tags", "tag", "multi"), ListSpec("history", "tag", "sequence", max_length=2))
    inputs = InputSpec((("user", "user"),), {"user": 401, "tag": 401}, (), lists)
    slow: dict[str, Any] = {"rounds": 50, "patience": 50, "learning_rate": 0.1, "metric": "auc", "smoothing": 1.0}
    model = fitted(tmp_path, inputs, CHAIN, (of_noise(2000, 1), of_noise(1000, 2)), **slow, **changes)
    rows = of_noise(6000, 3)
    assert rows.labels is not None
    for measured in measure_funnel(CHAIN, rows.labels, *score(model, rows)).outputs.values():
        assert abs(measured.auc.estimate - 0.5) < 3 * measured.auc.std_error
        assert measured.normalised_entropy < 1.05


@pytest.mark.parametrize("loss_space", ["entire", "given_parent"])
def test_boosters_are_those_of_lightgbm_on_the_rows_of_their_space(loss_space: str, tmp_path: Path) -> None:
    """Fitted here the plain way, to all rows in memory."""
    inputs, (train, dev) = tiny_parts()
    model = fitted(tmp_path, inputs, CHAIN, (train, dev), loss_space=loss_space, patience=1000)
    assert train.labels is not None and train.weight is not None
    for t, step in enumerate(model.steps):
        assert isinstance(step, Trees)
        rows = (train.labels[:, t] != UNOBSERVED) & (train.weight > 0)
        if t == 1 and loss_space == "given_parent":
            rows &= train.labels[:, 0] == 1
        x = np.concatenate([train.ids, train.numeric], 1, dtype=np.float64)
        parameters = {
            "objective": "binary",
            "num_leaves": 5,
            "min_data_in_leaf": 5,
            "learning_rate": 0.3,
            "verbosity": -1,
        }
        parameters |= {"deterministic": True, "force_row_wise": True, "num_threads": 1}
        data = lightgbm.Dataset(
            x[rows],
            train.labels[rows, t],
            weight=train.weight[rows],
            params=parameters,
            categorical_feature=[0, 1, 2, 3],
        )
        best = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[t])["best_iteration"]
        expected = lightgbm.train(parameters, data, best).predict(x, raw_score=True, num_threads=1)
        np.testing.assert_allclose(step.logits(x), expected, rtol=1e-12)


def test_the_best_round_by_the_dev_metric_is_kept(tmp_path: Path) -> None:
    inputs, (train, dev) = tiny_parts()
    calls: list[Any] = []
    changes: dict[str, Any] = {"metric": "auc", "rounds": 200, "patience": 5, "learning_rate": 0.5}
    model = fitted(tmp_path, inputs, CHAIN, (train, dev), progress=lambda *call: calls.append(call), **changes)
    assert dev.labels is not None
    for t, (step, line) in enumerate(zip(CHAIN.names, log_of(tmp_path), strict=True)):
        stages = [call for call in calls if call[0] == f"step {step}"]
        values = [float(call[4].removeprefix("dev auc ")) for call in stages]
        assert len(values) == line["best_iteration"] + 5 < 200, "the data no longer stops a step early"
        assert max(values) == values[line["best_iteration"] - 1] == round(line["dev"]["auc"], 4)
        assert [call[1:4] for call in stages] == [(i + 1, 200, "trees") for i in range(len(stages))]
        measured = measure_funnel(CHAIN, dev.labels, *score(model, dev), dev.weight).outputs[step]
        assert line["dev"]["auc"] == pytest.approx(measured.auc.estimate, abs=1e-6)
        assert isinstance(model.steps[t], Trees)


def test_the_log(tmp_path: Path) -> None:
    model = fitted(tmp_path, INPUTS, FUNNEL, PARTS, loss_space="given_parent")
    click, conversion, like = log_of(tmp_path)
    dev = PARTS[1]
    train_labels, weight = PARTS[0].labels, PARTS[0].weight
    assert train_labels is not None and weight is not None and dev.labels is not None
    assert list(click) == ["step", "rows", "best_iteration", "dev"]
    assert [line["step"] for line in (click, conversion, like)] == list(FUNNEL.names)
    clicked = (train_labels[:, 0] == 1) & (train_labels[:, 1] != UNOBSERVED) & (weight > 0)
    assert conversion["rows"] == clicked.sum() < click["rows"]
    measured = measure_funnel(FUNNEL, dev.labels, *score(model, dev), dev.weight).outputs
    for line, name in ((click, "click"), (conversion, "conversion_given_click"), (like, "like")):
        assert line["dev"]["log_loss"] == pytest.approx(measured[name].log_loss, rel=1e-5)


def test_neither_workers_nor_the_global_seed_change_a_bit(tmp_path: Path) -> None:
    runs = []
    for workers in (1, 2):
        np.random.seed(workers)
        changes = {"ids": "target_statistics", **BAGGED}
        runs.append(fitted(tmp_path / str(workers), INPUTS, FUNNEL, PARTS, workers=workers, **changes).fingerprint)
    assert runs[0] == runs[1] and log_of(tmp_path / "1") == log_of(tmp_path / "2")


def test_the_seed_decides_the_draw_of_rows_and_columns(tmp_path: Path) -> None:
    inputs = dataclasses.replace(INPUTS, lists=())
    found = [fitted(tmp_path / f"{i}", inputs, FUNNEL, PARTS, seed=i // 2, **BAGGED).fingerprint for i in range(4)]
    assert found[0] == found[1] != found[2] == found[3]
    steps = fitted(tmp_path / "same", inputs, Funnel.parse("a; b; c"), twins(), **BAGGED).steps
    assert steps[0] != steps[1], "two steps have one seed"


def twins() -> tuple[Columns, Columns]:
    """Of which all steps have the same labels."""
    found = [dataclasses.replace(part, labels=np.repeat(part.labels[:, :1], 3, 1)) for part in PARTS]  # type: ignore[index]
    return found[0], found[1]


def test_rows_without_weight_are_as_good_as_absent(tmp_path: Path) -> None:
    """But for the draw of folds, so there are no statistics here."""
    inputs = dataclasses.replace(INPUTS, lists=())
    without = [part.take(np.flatnonzero(part.weight)) for part in PARTS if part.weight is not None]
    whole = fitted(tmp_path / "whole", inputs, FUNNEL, PARTS)
    assert fitted(tmp_path / "without", inputs, FUNNEL, (without[0], without[1])).fingerprint == whole.fingerprint
    even = [dataclasses.replace(part, weight=np.ones(len(part), np.float32)) for part in PARTS]
    assert fitted(tmp_path / "even", inputs, FUNNEL, (even[0], even[1])).fingerprint != whole.fingerprint


def test_sampled_negatives_are_those_of_the_loader_and_corrected_in_scores(tmp_path: Path) -> None:
    encoder, keep = tiny.fitted_encoder(), 0.2
    train, dev = (tiny.encoded(tiny.draw_log(rows, rows), encoder) for rows in (12000, 3000))
    assert train.labels is not None and dev.labels is not None and train.weight is not None
    train.labels[train.labels == UNOBSERVED] = 0
    model = fitted(tmp_path, encoder.inputs, CHAIN, (train, dev), keep_negatives=keep, rounds=40)
    plain = fitted(tmp_path / "plain", encoder.inputs, CHAIN, (train, dev), rounds=40)
    chosen = Loader.of(train, 1, 0, keep).chosen
    assert chosen is not None
    click, _ = log_of(tmp_path)
    assert click["rows"] == np.count_nonzero(train.weight[chosen.numpy()])
    means = [np.exp(log_p).mean(0) for log_p, _ in (score(model, dev, keep), score(plain, dev), score(model, dev))]
    np.testing.assert_allclose(means[0], means[1], rtol=0.05)
    assert (means[2] > 1.5 * means[1]).all(), "the correction changes nothing"
    as_sampled = dev.weight * np.where(dev.labels[:, 0] == 0, keep, 1)
    measured = measure_funnel(CHAIN, dev.labels, *score(model, dev), as_sampled).outputs["click"]
    assert click["dev"]["log_loss"] == pytest.approx(measured.log_loss, rel=1e-5)


@pytest.mark.parametrize("reached", [0, 1])
def test_a_step_of_one_class_is_a_constant(reached: int, tmp_path: Path) -> None:
    train, dev = (dataclasses.replace(part, labels=part.labels.copy()) for part in PARTS)  # type: ignore[union-attr]
    assert train.labels is not None and train.weight is not None
    train.labels[:, 2] = np.where(train.labels[:, 2] == UNOBSERVED, UNOBSERVED, reached)
    model = fitted(tmp_path, INPUTS, FUNNEL, (train, dev), metric="auc")
    rows = int(((train.labels[:, 2] != UNOBSERVED) & (train.weight > 0)).sum())
    assert model.steps[2] == Constant((1 if reached else -1) * math.log((rows + 0.5) / 0.5))
    assert log_of(tmp_path)[2] == {"step": "like", "rows": rows, "best_iteration": 0, "dev": {}}
    model.save(tmp_path)
    assert json.loads((tmp_path / "boosters.json").read_text())["steps"][2] == {"constant": model.steps[2].logit}
    assert not (tmp_path / "step-2.txt").exists()


def test_a_step_that_nobody_observed_is_a_constant(tmp_path: Path) -> None:
    train = dataclasses.replace(PARTS[0], labels=PARTS[0].labels.copy())  # type: ignore[union-attr]
    train.labels[:, 2] = UNOBSERVED  # type: ignore[index]
    assert fitted(tmp_path, INPUTS, FUNNEL, (train, PARTS[1])).steps[2] == Constant(0.0)


def test_dev_rows_of_one_class(tmp_path: Path) -> None:
    assert PARTS[1].labels is not None
    dev = dataclasses.replace(PARTS[1], labels=np.zeros_like(PARTS[1].labels))
    said = r"auc of click is undefined on its \d+ dev rows: .*, or set model.metric = 'log_loss'"
    with pytest.raises(DataError, match=said):
        fitted(tmp_path, INPUTS, FUNNEL, (PARTS[0], dev), metric="auc")
    fitted(tmp_path, INPUTS, FUNNEL, (PARTS[0], dev))
    none = dataclasses.replace(dev, labels=np.full_like(dev.labels, UNOBSERVED))
    with pytest.raises(DataError, match="log_loss of click is undefined on its 0 dev rows: .* give dev more rows$"):
        fitted(tmp_path / "none", INPUTS, FUNNEL, (PARTS[0], none))
    assert not (tmp_path / "none").exists()


def test_lightgbm_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Nor of categories beyond max_bin, nor where no split is possible, nor where something else was not silent."""
    lightgbm.Dataset(np.zeros((2, 1)), params={"verbosity": 1, "min_data_in_bin": 1}).construct()
    capfd.readouterr()
    model = fitted(tmp_path / "a", INPUTS, FUNNEL, PARTS, max_bin=3)
    fitted(tmp_path / "b", INPUTS, FUNNEL, PARTS, min_rows_per_leaf=10_000)
    score(model, PARTS[1])
    assert capfd.readouterr() == ("", "")


def interrupted(folder: Path, tree: int, step: str) -> None:
    """A run that is told to stop by Ctrl-C at a tree of a step."""

    def progress(stage: str, done: int, total: int, unit: str, note: str = "") -> None:
        if (stage, done) == (f"step {step}", tree):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fitted(folder, INPUTS, FUNNEL, PARTS, progress=progress, **BAGGED)


def test_finished_steps_are_not_fitted_again_and_the_result_is_the_same(tmp_path: Path) -> None:
    whole = fitted(tmp_path / "whole", INPUTS, FUNNEL, PARTS, **BAGGED)
    interrupted(tmp_path / "run", 3, "conversion")
    assert [path.name for path in (tmp_path / "run/checkpoint").iterdir()] == ["step-0"]
    assert len(log_of(tmp_path / "run")) == 1
    interrupted(tmp_path / "run", 1, "like")
    assert len(log_of(tmp_path / "run")) == 2
    stages: list[str] = []
    resumed = fitted(tmp_path / "run", INPUTS, FUNNEL, PARTS, progress=lambda stage, *_: stages.append(stage), **BAGGED)
    assert set(stages) == {"step like"}
    assert resumed.fingerprint == whole.fingerprint and log_of(tmp_path / "run") == log_of(tmp_path / "whole")
    stages.clear()
    second = fitted(tmp_path / "run", INPUTS, FUNNEL, PARTS, progress=lambda stage, *_: stages.append(stage), **BAGGED)
    assert second.fingerprint == whole.fingerprint and not stages
    assert all(torch.equal(a, b) for a, b in zip(score_of(second), score_of(whole), strict=True))


def test_ctrl_c_at_the_end_of_a_step_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the last tree nobody else looks for it."""

    def saved(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return new_folder(*arguments, **options)

    monkeypatch.setattr("funnelcast.boosting.fit.new_folder", saved)
    for finished in (1, 2, 3):
        with pytest.raises(KeyboardInterrupt):
            fitted(tmp_path, INPUTS, FUNNEL, PARTS)
        assert len(log_of(tmp_path)) == finished
    fitted(tmp_path, INPUTS, FUNNEL, PARTS)


def score_of(model: Any) -> list[torch.Tensor]:
    return [torch.from_numpy(log) for log in score(model, PARTS[1])]


@pytest.mark.parametrize("name", ["step.json", "trees.txt"])
@pytest.mark.parametrize("damage", ["cut", "away", "other"])
def test_a_damaged_checkpoint(name: str, damage: str, tmp_path: Path) -> None:
    interrupted(tmp_path, 1, "conversion")
    file = tmp_path / "checkpoint/step-0" / name
    content = file.read_bytes()
    file.unlink() if damage == "away" else file.write_bytes(content[:-9] if damage == "cut" else b"[1]")
    with pytest.raises(FunnelcastError, match=r"checkpoint is damaged \(.*; delete it to train from the start"):
        fitted(tmp_path, INPUTS, FUNNEL, PARTS, **BAGGED)
    shutil.rmtree(tmp_path / "checkpoint")
    fitted(tmp_path, INPUTS, FUNNEL, PARTS, **BAGGED)


def test_the_metric_is_the_packages_own(tmp_path: Path) -> None:
    """Whose last bits do not depend on threads."""
    inputs, (train, dev) = tiny_parts()
    model = fitted(tmp_path, inputs, CHAIN, (train, dev), metric="auc", rounds=1)
    rows = (dev.labels[:, 0] != UNOBSERVED) & (dev.weight > 0)  # type: ignore[index, operator]
    x = np.concatenate([dev.ids, dev.numeric], 1, dtype=np.float64)[rows]
    expected = auc(dev.labels[rows, 0], model.steps[0].logits(x), dev.weight[rows])  # type: ignore[index]
    assert log_of(tmp_path)[0]["dev"]["auc"] == expected
