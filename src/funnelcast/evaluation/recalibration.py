"""One number on a trained model's logit, fitted to few rows of a group: what groups differ by, where they differ alike.

A group's rows have logit p = l + δ, with l the model's logit and δ ~ N(mean, std²) over groups. Of the rows of a group
δ has a posterior; rows are predicted with the mean over it of sigmoid(l + δ).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from funnelcast.evaluation.logistic import posterior_mode, sigmoid, softplus
from funnelcast.evaluation.rows import Array, Floats

NODES = np.linspace(-6, 6, 61)
"""In standard deviations of the normal at the posterior's peak."""
OFFSETS = np.linspace(-6, 6, 241)
"""δ, where the prior is fitted."""
MEANS = np.linspace(-1.5, 1.5, 61)
STDS = np.linspace(0, 2, 41)
BLOCK = 1000
"""Groups at a time, for whose likelihoods under every prior there has to be memory."""


@dataclass(frozen=True)
class OffsetPrior:
    """How δ is distributed over groups."""

    mean: float
    std: float

    @classmethod
    def fit(cls, logits: Floats, labels: Array, groups: Array) -> OffsetPrior:
        """Of the likeliest mean and std for rows (N,) of many groups, to within 0.05 each: groups are drawn from it."""
        likelihood = _of_groups(logits, labels, groups)
        means, stds = (grid.flatten() for grid in np.meshgrid(MEANS, STDS))
        spread = np.maximum(stds, 1e-3)  # all mass on one node
        prior = np.exp(-(((OFFSETS[:, None] - means) / spread) ** 2) / 2)
        prior /= prior.sum(0)
        blocks = np.split(likelihood, range(BLOCK, len(likelihood), BLOCK))
        told = sum(np.log(block @ prior + np.finfo(float).tiny).sum(0) for block in blocks)
        best = int(np.argmax(told))
        return cls(float(means[best]), float(stds[best]))


def recalibrated(prior: OffsetPrior, logits: Floats, labels: Array, asked: Floats) -> tuple[Floats, Floats]:
    """log p and log q (M,) of rows with the model's logits `asked` (M,), from labelled rows (N,) of their group."""
    design, base = np.full((len(logits), 1), prior.std), logits + prior.mean
    mode = posterior_mode(design, base, labels)
    u = mode.at + NODES / np.sqrt(mode.curvature[0, 0])
    moved = base + prior.std * u[:, None]  # (nodes, N)
    told = moved @ labels - softplus(moved).sum(1) - u**2 / 2
    weights = np.exp(told - told.max())
    weights /= weights.sum()
    after = asked + prior.mean + prior.std * u[:, None]
    return np.log(weights @ sigmoid(after)), np.log(weights @ sigmoid(-after))


def _of_groups(logits: Floats, labels: Array, groups: Array) -> Floats:
    """(G, offsets) likelihood of each group's labels at each δ, over its largest."""
    names, codes = np.unique(groups, return_inverse=True)
    odds, positives = np.exp(logits), np.bincount(codes, labels, len(names))
    columns = [positives * d - np.bincount(codes, np.log1p(odds * np.exp(d)), len(names)) for d in OFFSETS]
    told = np.stack(columns, 1)
    told -= told.max(1, keepdims=True)
    np.exp(told, out=told)
    return told
