"""Few rows of a group: an offset of the logit and a rate, both drawn to what groups have in common.

Offset: a group's rows have logit p = l + δ, with l the model's logit and δ ~ N(mean, std²) over groups. Of the rows of
a group δ has a posterior; rows are predicted with the mean over it of sigmoid(l + δ).
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
        scale = np.maximum(stds, 1e-3)  # all mass on one node
        prior = np.exp(-(((OFFSETS[:, None] - means) / scale) ** 2) / 2)
        prior /= prior.sum(0)
        blocks = np.split(likelihood, range(BLOCK, len(likelihood), BLOCK))
        log_likelihoods = sum(np.log(block @ prior + np.finfo(float).tiny).sum(0) for block in blocks)
        best = int(np.argmax(log_likelihoods))
        return cls(float(means[best]), float(stds[best]))


def recalibrated(prior: OffsetPrior, logits: Floats, labels: Array, query: Floats) -> tuple[Floats, Floats]:
    """Log p and log q (M,) of rows with the model's logits `query` (M,), from labelled rows (N,) of their group."""
    design, base = np.full((len(logits), 1), prior.std), logits + prior.mean
    mode = posterior_mode(design, base, labels)
    u = mode.at + NODES / np.sqrt(mode.curvature[0, 0])
    moved = base + prior.std * u[:, None]  # (nodes, N)
    log_likelihoods = moved @ labels - softplus(moved).sum(1) - u**2 / 2
    weights = np.exp(log_likelihoods - log_likelihoods.max())
    weights /= weights.sum()
    after = query + prior.mean + prior.std * u[:, None]
    return np.log(weights @ sigmoid(after)), np.log(weights @ sigmoid(-after))


def _of_groups(logits: Floats, labels: Array, groups: Array) -> Floats:
    """(G, offsets) likelihood of each group's labels at each δ, over its largest."""
    names, inverse = np.unique(groups, return_inverse=True)
    odds, positives = np.exp(logits), np.bincount(inverse, labels, len(names))
    columns = [positives * d - np.bincount(inverse, np.log1p(odds * np.exp(d)), len(names)) for d in OFFSETS]
    log_likelihoods = np.stack(columns, 1)
    log_likelihoods -= log_likelihoods.max(1, keepdims=True)
    np.exp(log_likelihoods, out=log_likelihoods)
    return log_likelihoods


@dataclass(frozen=True)
class RatePrior:
    """Rates of groups are distributed as Beta(strength · rate, strength · (1 - rate))."""

    rate: float
    strength: float
    """As many rows of a group tell as much as this."""

    @classmethod
    def fit(cls, labels: Array, groups: Array) -> RatePrior:
        """By moments (Kleinman 1973), of labels (N,) in {0, 1} in groups (N,).

        With r the rate of all N rows, n_g and r_g rows and rate of each of G groups, and ρ = 1 / (1 + strength),

            E Σ n_g (r_g - r)² = r (1 - r) ((1 - ρ) (G - 1) + ρ (N - Σ n_g² / N))
        """
        _, inverse = np.unique(groups, return_inverse=True)
        rows, positives = np.bincount(inverse), np.bincount(inverse, labels)
        total = float(rows.sum())
        rate = float(np.clip(positives.sum(), 0.5, total - 0.5)) / total
        between = float(rows @ (positives / rows - rate) ** 2) / (rate * (1 - rate))
        within = len(rows) - 1
        expected = total - float(rows @ rows) / total - within  # 0 if all groups have one row, which tell nothing of ρ
        share = (between - within) / max(expected, 1.0) if expected > 0 else 0.0
        share = min(max(share, 1e-6), 1 - 1e-6)
        return cls(rate, 1 / share - 1)

    def smoothed(self, positives: float, rows: float) -> float:
        """The mean of a group's rate, of which `positives` among `rows` are known."""
        return (positives + self.strength * self.rate) / (rows + self.strength)
