"""Boosted trees against plain loops over their dumped nodes, and what holds for every model."""

import json
import math
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
import torch

from funnelcast.boosting.id_rates import IdRates
from funnelcast.boosting.lightgbm import LightGBM
from funnelcast.boosting.model import BoostedModel
from funnelcast.boosting.trees import Constant, Trees
from funnelcast.data.batch import Batch
from tests.boosting.fitted import fitted
from tests.data.listed import FUNNEL, INPUTS, draw

ROWS = 400
PARTS = draw(2000, 1), draw(300, 2)
BATCH = Batch.of(draw(ROWS, 3)).slice(0, ROWS)
KINDS: dict[str, dict[str, Any]] = {
    "categorical": {},
    "statistics": {"ids": "target_statistics"},
    "conditional": {"loss_space": "given_parent", "ids": "target_statistics"},
}


@pytest.fixture(scope="module", params=KINDS.values(), ids=list(KINDS))
def settings(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def model(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> BoostedModel:
    return fitted(tmp_path_factory.mktemp("run"), INPUTS, FUNNEL, PARTS, **settings)


def leaf(node: dict[str, Any], row: list[float]) -> float:
    """The value of the leaf that a row falls into."""
    while "leaf_value" not in node:
        value = row[node["split_feature"]]
        if node["decision_type"] == "==":
            left = str(int(value)) in node["threshold"].split("||")
        else:
            left = value <= node["threshold"]
        node = node["left_child" if left else "right_child"]
    return float(node["leaf_value"])


def logits_by_hand(model: BoostedModel, rows: int) -> list[list[float]]:
    """(rows, T), from the nodes that LightGBM writes as JSON."""
    x = model.matrix(BATCH, model.statistics).tolist()
    steps = []
    for step in model.steps:
        assert isinstance(step, Trees)
        dumped = lightgbm.Booster(model_str=step.text).dump_model()["tree_info"]
        assert 0 < len(dumped) <= 12
        steps.append([sum(leaf(tree["tree_structure"], row) for tree in dumped) for row in x[:rows]])
    return [list(each) for each in zip(*steps, strict=True)]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_reach_is_that_of_the_leaves_added_up(model: BoostedModel) -> None:
    log_p, log_q = model(BATCH)
    assert log_p.dtype == log_q.dtype == torch.float32
    assert log_p.std(0).min() > 0.1, "a step says nearly the same of every row"
    for row, logits in enumerate(logits_by_hand(model, 60)):
        p = [sigmoid(logit) for logit in logits]
        if model.head == "chain":
            p[1] *= p[0]
        assert log_p[row].exp().tolist() == pytest.approx(p, rel=1e-5)
        assert log_q[row].exp().tolist() == pytest.approx([1 - each for each in p], rel=1e-5)


def test_dumped_trees_split_ids_and_numbers(model: BoostedModel) -> None:
    """Or the loop over them would not have been put to the test."""
    text = json.dumps([lightgbm.Booster(model_str=s.text).dump_model() for s in model.steps if isinstance(s, Trees)])
    assert '"decision_type": "<="' in text and ('"decision_type": "=="' in text) == (
        model.matrix.ids != "target_statistics"
    )


def test_a_row_does_not_depend_on_the_others_nor_on_threads(model: BoostedModel) -> None:
    whole = model(BATCH)
    for size in (1, 7, 256):
        chunks = [model(BATCH.slice(start, start + size)) for start in range(0, ROWS, size)]
        assert all(torch.equal(torch.cat([p[i] for p in chunks]), whole[i]) for i in (0, 1))
    torch.set_num_threads(2)
    try:
        assert all(torch.equal(a, b) for a, b in zip(model(BATCH), whole, strict=True))
    finally:
        torch.set_num_threads(1)
    assert all(each.shape == (0, 3) for each in model(BATCH.slice(0, 0)))


def test_what_is_saved_is_loaded_bit_by_bit(model: BoostedModel, settings: dict[str, Any], tmp_path: Path) -> None:
    model.save(tmp_path)
    names = ["boosters.json", "statistics.safetensors", "step-0.txt", "step-1.txt", "step-2.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    loaded = LightGBM.from_dict({"name": "lightgbm", **settings}).build(INPUTS, FUNNEL)
    loaded.load(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(loaded(BATCH), model(BATCH), strict=True))
    assert loaded.fingerprint == model.fingerprint and len(model.fingerprint) == 12


def test_the_fingerprint_is_of_all_that_is_learned(model: BoostedModel) -> None:
    steps, statistics, found = model.steps, model.statistics, {model.fingerprint}
    try:
        for changed in ((Constant(1.0), *steps[1:]), (Constant(2.0), *steps[1:]), steps[::-1]):
            model.steps = changed
            found.add(model.fingerprint)
        model.steps, name = steps, next(iter(statistics.rates))
        changed_rates = {**statistics.rates, name: statistics.rates[name] + np.float32(1e-3)}
        model.statistics = IdRates(changed_rates, statistics.counts)
        assert len(found | {model.fingerprint}) == 5
    finally:
        model.steps, model.statistics = steps, statistics


def test_reach_never_rises_along_an_edge_under_the_chain_head(model: BoostedModel) -> None:
    log_p, _ = model(BATCH)
    assert bool(torch.all(log_p[:, 1] <= log_p[:, 0])) or model.head == "independent"


def test_unknown_ids_are_one_thing(model: BoostedModel) -> None:
    """And a row of nothing else has a probability."""
    rows = BATCH.take(torch.tensor([0, 0]))
    rows.ids[:] = 0
    for lists in rows.lists.values():
        lists.ids[:] = 0
    log_p, log_q = model(rows)
    assert torch.equal(log_p[0], log_p[1]) and torch.all(torch.isfinite(log_p) & torch.isfinite(log_q))
