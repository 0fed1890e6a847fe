"""Penalties next to the losses, against their formulas by plain loops."""

import math

import numpy as np
import pytest
import torch

from funnelcast.models.network import NetworkRecipe
from funnelcast.models.penalties import RiseAlongEdges
from funnelcast.ops import chain_reach, independent_reach
from funnelcast.registry import recipe_of

PARENTS = (-1, 0, 1, 0, -1)
"""A tree of four steps, and one by itself."""
FACTOR = 0.6
LOGITS = 2 * torch.randn(60, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
WEIGHT = torch.randint(4, (60,), generator=torch.Generator().manual_seed(5)).double()


@pytest.mark.parametrize("weighted", [True, False])
def test_the_calibrator_is_aitms_formula(weighted: bool) -> None:
    """α Σ max(p(child) − p(parent), 0) over edges and rows, by weight; and its slope by each logit."""
    logits = LOGITS.clone().requires_grad_()
    found = RiseAlongEdges(FACTOR)(independent_reach(logits, PARENTS), PARENTS, WEIGHT if weighted else None)
    (grad,) = torch.autograd.grad(found, logits)
    total, slopes = 0.0, np.zeros(logits.shape)
    for i, row in enumerate(logits.tolist()):
        p, w = [1 / (1 + math.exp(-z)) for z in row], FACTOR * (WEIGHT[i].item() if weighted else 1.0)
        for child, parent in enumerate(PARENTS):
            if parent >= 0 and p[child] > p[parent]:
                total += w * (p[child] - p[parent])
                slopes[i, child] += w * p[child] * (1 - p[child])
                slopes[i, parent] -= w * p[parent] * (1 - p[parent])
    assert found.item() == pytest.approx(total, rel=1e-12)
    np.testing.assert_allclose(grad, slopes, rtol=1e-10, atol=1e-13)


def test_there_is_nothing_to_calibrate_without_an_edge_or_under_a_chain() -> None:
    calibrate, apart = RiseAlongEdges(FACTOR), (-1,) * 5
    assert calibrate(independent_reach(LOGITS, apart), apart, WEIGHT) == 0
    assert calibrate(chain_reach(LOGITS, PARENTS), PARENTS, WEIGHT) == 0


@pytest.mark.parametrize(("settings", "expected"), [
    ({"name": "aitm", "calibrator": FACTOR}, (RiseAlongEdges(FACTOR),)),
    ({"name": "aitm", "calibrator": 0.0}, ()),
    ({"name": "aitm", "head": "chain"}, ()),
    ({"name": "esmm"}, ()),
])  # fmt: skip
def test_a_recipe_says_its_penalties(settings: dict[str, object], expected: tuple[RiseAlongEdges, ...]) -> None:
    recipe = recipe_of(settings)
    assert isinstance(recipe, NetworkRecipe) and recipe.penalties() == expected
