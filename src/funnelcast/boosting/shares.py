"""Deciding how a network and boosted trees are mixed, on the dev rows: neither was fitted to them, both were stopped by
them."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from funnelcast.boosting.model import BoostedModel
from funnelcast.boosting.stacked import Share, Stacked
from funnelcast.boosting.trees import Constant
from funnelcast.data.columns import Columns
from funnelcast.evaluation.score import score
from funnelcast.models.network import FunnelModel
from funnelcast.ops.reach import Reach, logits_given_parent
from funnelcast.training.statistics import folds_of, step_rows

PRIOR: Final = 40.0
"""Curvature of the penalty that draws a share to 1/2: what some hundred rows weigh against it."""
Floats = NDArray[np.float64]


def stack(
    network: FunnelModel, trees: BoostedModel, dev: Columns, seed: int, keep_negatives: float, workers: int
) -> Stacked:
    """Both, mixed by shares that the dev rows decide. A step that trees do not help has none of them.

    What they bring is measured by cross-fitting: on each half of the dev rows by the share that the other half decides.
    """
    found = Stacked(network, trees)
    assert dev.labels is not None
    reached = [score(each, dev, keep_negatives, workers=workers) for each in (network, trees)]
    parents = network.parents
    logits = [logits_given_parent(Reach(*map(torch.from_numpy, own)), parents).numpy() for own in reached]
    counted = step_rows(dev.labels, parents)
    weight = np.ones(len(dev)) if dev.weight is None else dev.weight.astype(np.float64)
    shares = []
    for t in range(len(parents)):
        own = np.flatnonzero(counted[:, t] & (weight > 0))
        y = (dev.labels[own, t] == 1).astype(np.float64)
        shares.append(share_of(logits[0][own, t], logits[1][own, t], y, weight[own], folds_of(len(own), 2, seed) == 0))
    found.shares = tuple(shares)
    unused = Constant(0.0)  # as long as it has no share
    trees.steps = tuple(step if share.trees else unused for step, share in zip(trees.steps, shares, strict=True))
    return found


def share_of(network: Floats, trees: Floats, y: Floats, weight: Floats, half: NDArray[np.bool_]) -> Share:
    """The share of trees by log odds (N,) of both, labels, weights, and the two halves of the rows; 0 unless trees
    lower the log-loss."""
    if not len(y):
        return Share()
    gains = np.empty(len(y))
    for own in (half, ~half):
        share = best_share(network[~own], trees[~own], y[~own], weight[~own])
        mixed = network[own] + share * (trees[own] - network[own])
        gains[own] = _losses(network[own], y[own]) - _losses(mixed, y[own])
    gain = float(np.average(gains, weights=weight))
    error = float(np.sqrt((weight**2 * (gains - gain) ** 2).sum()) / weight.sum())
    return Share(best_share(network, trees, y, weight) if gain > 0 else 0.0, gain, error)


def best_share(network: Floats, trees: Floats, y: Floats, weight: Floats) -> float:
    """The s in [0, 1] that minimises Σ w · log-loss of network + s · (trees − network), plus `PRIOR` / 2 · (s − 1/2)²:
    convex in s, so Newton's steps, each halving an interval where it would leave it."""
    difference, low, high, share = trees - network, 0.0, 1.0, 0.5
    for _ in range(60):
        p = 0.5 + 0.5 * np.tanh(0.5 * (network + share * difference))
        slope = float((weight * (p - y)) @ difference) + PRIOR * (share - 0.5)
        low, high = (low, share) if slope > 0 else (share, high)
        curve = float((weight * p * (1 - p)) @ difference**2) + PRIOR
        step = share - slope / curve
        share, before = step if low < step < high else (low + high) / 2, share
        if abs(share - before) < 1e-5:
            break
    return round(share, 3)


def _losses(logits: Floats, y: Floats) -> Floats:
    return np.logaddexp(0, logits) - y * logits
