"""MAN against a second computation of it, row by row, under every setting."""

from typing import Any

import numpy as np
import pytest
import torch

from funnelcast.errors import ConfigError
from funnelcast.models.man import MAN
from tests.models.reference import FUNNELS, INPUTS, SMALL_MAN, build, count_by_formula, draw_batch, reach_by_hand

SETTINGS: list[dict[str, Any]] = [
    {},
    {"attention": "tower_top"},
    {"attention": "none"},
    {"head": "independent"},
    {"head": "independent", "attention": "tower_top"},
    {"experts_per_step": 2, "shared_experts": 3},
    {"shared_experts": 0, "experts_per_step": 2},
    {"embedding_dims": {}, "expert": [3], "tower": [4, 3, 2]},
    {"embedding_dim": 4, "embedding_dims": {"user": 1}},
]


@pytest.mark.parametrize("funnel", FUNNELS.values(), ids=FUNNELS)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_probabilities(settings: dict[str, Any], funnel: Any) -> None:
    recipe = MAN.from_dict(SMALL_MAN | settings)
    model, batch = build(SMALL_MAN | settings, funnel), draw_batch(4)
    log_p, log_q = model(batch)
    assert torch.all(log_p.std(0) > 0), "a step says the same of every row"
    for i in range(4):
        p = np.array(reach_by_hand(recipe, funnel, model, batch.slice(i, i + 1)))
        np.testing.assert_allclose(log_p[i].detach().exp(), p, rtol=1e-11)
        np.testing.assert_allclose(log_q[i].detach().exp(), 1 - p, rtol=1e-11)


@pytest.mark.parametrize("funnel", FUNNELS.values(), ids=FUNNELS)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_number_of_parameters(settings: dict[str, Any], funnel: Any) -> None:
    recipe = MAN.from_dict(SMALL_MAN | settings)
    assert sum(p.numel() for p in recipe.build(INPUTS, funnel).parameters()) == count_by_formula(recipe, funnel)


def test_number_of_parameters_at_the_papers_sizes() -> None:
    """By hand: rows (5 + 7) · 5, x of 16; 12 experts; 2 gates over 8; one edge; 2 towers."""
    experts = 12 * (17 * 256 + 257 * 128)
    towers = 2 * (129 * 128 + 129 * 16 + 17 * 32 + 33)
    expected = 12 * 5 + experts + 2 * 17 * 8 + (129 * 128 + 3 * 128**2) + towers
    assert sum(p.numel() for p in MAN().build(INPUTS, FUNNELS["chain"]).parameters()) == expected


def test_a_steps_gate_reaches_another_step_by_attention_alone() -> None:
    batch = draw_batch(8)
    for attention, edges in (("gated", True), ("tower_top", True), ("none", False)):
        model = build(SMALL_MAN | {"attention": attention}, FUNNELS["parallel"])
        before = model(batch).log_p
        with torch.no_grad():
            model.get_parameter("trunk.gates.logits.0.weight").mul_(-2)
        marital, income = (model(batch).log_p != before).any(0).tolist()
        assert marital and income == edges


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"experts_per_step": 0}, "experts_per_step: 0 is not allowed"),
        ({"shared_experts": -1}, "shared_experts: -1 is not allowed"),
        ({"attention": "gates"}, "attention: 'gates' is not one of gated, tower_top, none; did you mean 'gated'?"),
        ({"shared_expert": 1}, "shared_expert: is not a setting; did you mean 'shared_experts'?"),
    ],
)
def test_faults(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        MAN.from_dict(SMALL_MAN | changes)
    [found] = caught.value.faults
    assert fault in str(found)
