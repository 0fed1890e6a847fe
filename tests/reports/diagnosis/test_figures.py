"""Bins, frequencies, distributions and cosines, each a second, slow way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from funnelcast.evaluation.standard_errors import wilson
from funnelcast.reports.diagnosis.gates_and_attention import attention, gates
from funnelcast.reports.diagnosis.gradient_conflict import conflict
from funnelcast.reports.diagnosis.scores import bins_of, buckets
from funnelcast.training.losses import LossConfig, build_loss_weights
from funnelcast.training.objective import BatchTotals, Microbatch, Objective
from tests.training.test_step import FUNNEL, RATES, build, drawn


def test_bins_hold_equal_mass_and_their_means() -> None:
    rng = np.random.default_rng(0)
    p, weight = rng.random(1000), rng.integers(1, 4, 1000).astype(float)
    labels = (rng.random(1000) < p).astype(np.uint8)
    found = bins_of(labels, p, weight, bins=10)
    assert sum(b["rows"] for b in found) == 1000 and len(found) == 10
    order = np.argsort(p)
    first = order[: found[0]["rows"]]
    assert found[0]["predicted"] == pytest.approx(np.average(p[first], weights=weight[first]))
    assert found[0]["observed"] == pytest.approx(np.average(labels[first], weights=weight[first]))
    assert weight[first].sum() == pytest.approx(weight.sum() / 10, rel=0.05)
    assert all(b["low"] < b["observed"] < b["high"] for b in found)


def test_equal_predictions_share_a_bin_and_rows_without_weight_have_none() -> None:
    p = np.array([0.1] * 50 + [0.9] * 3)
    assert [b["rows"] for b in bins_of(np.ones(53, np.uint8), p, np.ones(53), bins=10)] == [50, 3]
    assert bins_of(np.ones(3, np.uint8), np.ones(3), np.zeros(3)) == []


@pytest.mark.parametrize(("reached", "rows"), [(0, 20), (3, 40), (40, 40)])
def test_the_interval_is_where_the_score_test_would_not_reject(reached: int, rows: int) -> None:
    rate = reached / rows
    for end in wilson(rate, rows):
        if 0 < end < 1:
            assert abs(rate - end) / math.sqrt(end * (1 - end) / rows) == pytest.approx(1.959964, abs=1e-5)


def test_the_most_frequent_ids_are_the_head() -> None:
    ids = np.repeat([1, 2, 3, 4, 0], [50, 29, 16, 5, 40])
    assert buckets(ids, 6).tolist() == [0, 3, 2, 2, 1, 0]


def test_cosines_are_those_of_the_losses_gradients() -> None:
    model, _ = build("man")
    objective = Objective(model, build_loss_weights(LossConfig(), RATES).double(), LossConfig())

    class One:
        def epoch(self, number: int) -> object:
            return iter([drawn()])

    found = {(c["a"], c["b"], c["group"]): c["cosine"] for c in conflict(objective, One(), FUNNEL.names)}  # type: ignore[arg-type]
    batch = objective.labelled(drawn())
    assert batch.labels is not None
    rows = Microbatch(model.embedding(batch), batch.labels, batch.weight, BatchTotals.of(batch))
    losses, _ = objective(rows)
    towers = list(model.groups(["experts"]).values())
    flat = []
    for t in (0, 1):
        grads = torch.autograd.grad(losses[t], towers, retain_graph=True, allow_unused=True, materialize_grads=True)
        flat.append(torch.cat([g.flatten() for g in grads]))
    both = (flat[0] != 0) & (flat[1] != 0)
    expected = torch.nn.functional.cosine_similarity(flat[0][both], flat[1][both], dim=0)
    assert found["click", "conversion", "experts"] == pytest.approx(float(expected), abs=1e-9)
    assert ("click", "conversion", "all shared") in found


def test_shares_of_gates_and_attention_are_the_models_own() -> None:
    model, _ = build("man")
    rows = drawn(8)
    of_gates, edges = gates(model, rows, FUNNEL.names), attention(model, rows, FUNNEL.names)
    x = model.pooling(model.embedding(rows))
    for t, step in enumerate(FUNNEL.names):
        gate = model.trunk.gates.logits[t](x).softmax(1).detach().numpy()  # type: ignore[union-attr, index, operator]
        assert [e["share"] for e in of_gates[step]["experts"]] == pytest.approx(gate.mean(0).tolist())
        assert of_gates[step]["entropy"] == pytest.approx(-(gate * np.log(gate)).sum(1).mean())
        assert [e["name"] for e in of_gates[step]["experts"]] == ["own 1", "shared 1"]
    assert [(e["parent"], e["child"]) for e in edges] == [("click", "conversion"), ("click", "like")]
    vectors = model.trunk(x)
    p, own = vectors[0], vectors[1]
    weight = {name: each.detach() for name, each in model.attention.state_dict().items()}
    tokens = torch.stack([torch.relu(p @ weight["information.0_1.weight"].T + weight["information.0_1.bias"]), own])
    scores = ((tokens @ weight["query.1.weight"].T) * (tokens @ weight["key.1.weight"].T)).sum(-1)
    shares = (scores / math.sqrt(own.shape[1])).softmax(0)
    assert edges[0]["mean"] == pytest.approx(shares[0].mean().item())
    assert edges[0]["quantiles"] == sorted(edges[0]["quantiles"])


def test_models_without_gates_have_none() -> None:
    model, _ = build("shared bottom")
    assert gates(model, drawn(8), FUNNEL.names) == {} and attention(model, drawn(8), FUNNEL.names) == []
