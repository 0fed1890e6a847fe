"""Shares against a slow search; and a mixture against its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from funnelcast.boosting.shares import PRIOR, best_share, share_of
from funnelcast.boosting.stacked import Share, mix
from funnelcast.ops.reach import HEADS, Reach, logits_given_parent

PARENTS = (-1, 0, 1, 0, -1)


def loss(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(-np.where(y == 1, z, -z)))


def draw(rows: int, noise: tuple[float, float], seed: int = 0) -> tuple[np.ndarray, ...]:
    """Log odds of two models that know the truth with so much noise, labels and weights."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(-1, 1, rows)
    y = (rng.random(rows) < 1 / (1 + np.exp(-truth))).astype(float)
    models = [truth + scale * rng.normal(size=rows) for scale in noise]
    return *models, y, rng.integers(0, 4, rows).astype(float)


@pytest.mark.parametrize("noise", [(0.5, 0.5), (0.1, 2.0), (2.0, 0.1), (0.0, 5.0)])
@pytest.mark.parametrize("rows", [30, 3000])
def test_the_share_is_the_best_one_of_a_slow_search(noise: tuple[float, float], rows: int) -> None:
    network, trees, y, weight = draw(rows, noise)
    grid = np.linspace(0, 1, 1001)
    values = [(weight * loss(network + s * (trees - network), y)).sum() + PRIOR / 2 * (s - 0.5) ** 2 for s in grid]
    assert best_share(network, trees, y, weight) == pytest.approx(grid[np.argmin(values)], abs=1.1e-3)


def test_few_rows_leave_the_share_at_one_half() -> None:
    network, trees, y, weight = draw(3, (0.5, 0.5))
    assert best_share(network, trees, y, weight) == pytest.approx(0.5, abs=0.05)


def test_the_gain_is_that_of_shares_which_the_rows_did_not_decide() -> None:
    network, trees, y, weight = draw(4000, (0.7, 0.7))
    half = np.arange(4000) % 3 == 0
    found = share_of(network, trees, y, weight, half)
    gains = np.empty(4000)
    for own in (half, ~half):
        s = best_share(network[~own], trees[~own], y[~own], weight[~own])
        gains[own] = loss(network[own], y[own]) - loss((1 - s) * network[own] + s * trees[own], y[own])
    assert found.gain == pytest.approx((weight * gains).sum() / weight.sum()) and found.gain > 5 * found.error > 0
    assert found.trees == best_share(network, trees, y, weight)


def test_trees_that_know_nothing_have_no_share() -> None:
    network, trees, y, weight = draw(4000, (0.0, 3.0))
    found = share_of(network, -trees, y, weight, np.arange(4000) % 2 == 0)
    assert found.trees == 0 and found.gain <= 0
    assert share_of(network[:0], trees[:0], y[:0], weight[:0], np.zeros(0, bool)) == Share()


def reach_of(logits: torch.Tensor) -> Reach:
    return Reach(*(each.float() for each in HEADS["chain"](logits, PARENTS)))


def test_log_odds_given_the_parent_come_back_from_reach() -> None:
    logits = torch.randn(200, len(PARENTS), dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
    assert torch.allclose(logits_given_parent(reach_of(logits), PARENTS), logits, atol=2e-3)
    far = logits_given_parent(reach_of(logits * 1e3), PARENTS)
    assert bool(far.isfinite().all())


def test_a_mixture_averages_log_odds_and_never_rises_along_the_funnel() -> None:
    generator = torch.Generator().manual_seed(1)
    network, trees = (torch.randn(100, len(PARENTS), dtype=torch.float64, generator=generator) for _ in range(2))
    shares = tuple(Share(s) for s in (0.0, 1.0, 0.3, 0.5, 0.9))
    s = torch.tensor([share.trees for share in shares])
    expected = HEADS["chain"]((1 - s) * network + s * trees, PARENTS)
    found = mix(reach_of(network), reach_of(trees), shares, PARENTS)
    assert torch.allclose(found.log_p, expected.log_p, atol=1e-5)
    assert torch.allclose(found.log_q, expected.log_q, atol=1e-5)
    for step, parent in enumerate(PARENTS):
        assert parent < 0 or bool((found.log_p[:, step] <= found.log_p[:, parent]).all())


def test_an_independent_head_that_rises_is_cut() -> None:
    rising = Reach(torch.tensor([[-3.0, -0.1]]), torch.tensor([[-0.05, -2.4]]))
    found = mix(rising, rising, (Share(0.5), Share(0.5)), (-1, 0))
    assert found.log_p[0, 1] <= found.log_p[0, 0] and bool(torch.stack(found).isfinite().all())
