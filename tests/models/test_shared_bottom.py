"""Shared bottom against a second computation of it, row by row, under every setting."""

from typing import Any

import numpy as np
import pytest
import torch

from funnelcast.errors import ConfigError
from funnelcast.models.shared_bottom import SharedBottom
from tests.models.reference import (
    FUNNELS,
    INPUTS,
    SMALL_SHARED_BOTTOM,
    build,
    count_by_formula,
    draw_batch,
    reach_by_hand,
)

SETTINGS: list[dict[str, Any]] = [
    {},
    {"head": "chain"},
    {"embedding_dims": {}, "expert": [3], "tower": [4, 3, 2]},
    {"embedding_dim": 4, "embedding_dims": {"user": 1}},
]


@pytest.mark.parametrize("funnel", FUNNELS.values(), ids=FUNNELS)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_probabilities(settings: dict[str, Any], funnel: Any) -> None:
    recipe = SharedBottom.from_dict(SMALL_SHARED_BOTTOM | settings)
    model, batch = build(SMALL_SHARED_BOTTOM | settings, funnel), draw_batch(4)
    log_p, log_q = model(batch)
    assert torch.all(log_p.std(0) > 0), "a step says the same of every row"
    for i in range(4):
        p = np.array(reach_by_hand(recipe, funnel, model, batch.slice(i, i + 1)))
        np.testing.assert_allclose(log_p[i].detach().exp(), p, rtol=1e-11)
        np.testing.assert_allclose(log_q[i].detach().exp(), 1 - p, rtol=1e-11)


@pytest.mark.parametrize("funnel", FUNNELS.values(), ids=FUNNELS)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_number_of_parameters(settings: dict[str, Any], funnel: Any) -> None:
    recipe = SharedBottom.from_dict(SMALL_SHARED_BOTTOM | settings)
    assert sum(p.numel() for p in recipe.build(INPUTS, funnel).parameters()) == count_by_formula(recipe, funnel)


def test_number_of_parameters_at_the_papers_sizes() -> None:
    """By hand: rows (5 + 7) · 5, x of 16, one network, 2 towers."""
    expected = 12 * 5 + 17 * 256 + 257 * 128 + 2 * (129 * 128 + 129 * 16 + 17 * 32 + 33)
    assert sum(p.numel() for p in SharedBottom().build(INPUTS, FUNNELS["chain"]).parameters()) == expected


def test_it_has_no_settings_of_mans() -> None:
    with pytest.raises(ConfigError, match="attention: is not a setting"):
        SharedBottom.from_dict({"attention": "none"})
