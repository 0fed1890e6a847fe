"""The best that can be made of few rows of a campaign, where the process of all campaigns is known: Bayes' rule.

What is a campaign's own is θ ~ N(0, Σ); its rows have logit p_k = base_k + design θ_k. The posterior of θ given
labelled rows has no closed form: draws from a Student t around its peak, with its curvature there, are weighed by the
posterior over the density that they come from (importance sampling), so that means under it are exact as draws go on.

A query row of a conversion has a click, which tells of θ too. Where each campaign has as many query rows with a click,

    p(conversion | click, x, rows) = E[p_1 / Z · p_2] / E[p_1 / Z],   Z(θ) = mean of p_1 over all x

under the posterior of the rows, with p_k = p_k(x, θ). No method can have a lower mean log-loss over campaigns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.columns import Columns
from funnelcast.evaluation.logistic import posterior_mode
from funnelcast.evaluation.rows import Array, Floats
from funnelcast.fewshot.tasks import Logs, TaskOutput
from proofs.simulators.campaigns import SIZES, CampaignSimulator

FREEDOM = 8.0
"""Of the Student t."""
DRAWS, FEWEST, CELLS = 2048, 1024, 1 << 24
"""Fewer draws where draws times rows were more than CELLS."""
CHUNK = 1 << 20
"""Draws times rows that are held at once."""
PILOT = 2048
"""Rows that Z is a mean over."""

Singles = NDArray[np.float32]


class Draws(NamedTuple):
    """A posterior."""

    at: Floats  # (S, D)
    weights: Floats  # (S,), of sum 1

    @property
    def effective(self) -> float:
        """So many draws from the posterior itself would tell as much."""
        return float(1 / (self.weights**2).sum())


def draw_posterior(design: Floats, base: Floats, labels: Array, rng: np.random.Generator, draws: int) -> Draws:
    """Of u ~ N(0, I) (D,), where labels (N,) in {0, 1} have logit p = base (N,) + design (N, D) u. `draws`: even."""
    mode = posterior_mode(design, base, labels)
    d = len(mode.at)
    z = rng.standard_normal((draws // 2, d)) / np.sqrt(rng.chisquare(FREEDOM, (draws // 2, 1)) / FREEDOM)
    z = np.concatenate([z, -z])
    at = mode.at + np.linalg.solve(np.linalg.cholesky(mode.curvature).T, z.T).T
    log_weights = _likelihood(design, base, labels, at) - (at**2).sum(1) / 2
    log_weights += (FREEDOM + d) / 2 * np.log1p((z**2).sum(1) / FREEDOM)
    weights = np.exp(log_weights - log_weights.max())
    return Draws(at, weights / weights.sum())


def _likelihood(design: Floats, base: Floats, labels: Array, at: Floats) -> Floats:
    """(S,) logarithms."""
    found, single = [], design.T.astype(np.float32)
    for chunk in np.array_split(at, max(1, len(at) * len(base) // CHUNK)):
        logits = base.astype(np.float32) + chunk.astype(np.float32) @ single
        found.append(-np.log(1 + np.exp(logits)).sum(1, dtype=np.float64))
    return np.concatenate(found) + at @ (design.T @ labels)


@dataclass(frozen=True)
class ExactBayes:
    """The few-shot method that knows the process of campaigns, and learns from the support what is a campaign's own."""

    simulator: CampaignSimulator
    target: TaskOutput
    seed: int = 0

    def posterior(self, support: Columns) -> Draws:
        """Of θ (S, 6)."""
        ids, labels = support.ids[:, : len(SIZES)], support.labels
        assert labels is not None
        clicked = labels[:, 0] == 1
        z, base = self.simulator.design(ids), self.simulator.base(ids)
        design = np.concatenate([np.kron([1, 0], z), np.kron([0, 1], z[clicked])]) @ self._root
        bases = np.concatenate([base[:, 0], base[clicked, 1]])
        known = np.concatenate([labels[:, 0], labels[clicked, 1]]).astype(np.float64)
        draws = int(np.clip(CELLS // max(len(bases), 1), FEWEST, DRAWS))
        found = draw_posterior(design, bases, known, np.random.default_rng([self.seed, 9]), draws)
        return Draws(found.at @ self._root.T, found.weights)

    def __call__(self, support: Columns, query: Columns) -> Logs:
        found = self.posterior(support)
        weights = np.tile(found.weights.astype(np.float32)[:, None], len(query))
        if self.target.output.given is not None:
            clicks = probabilities(self.simulator, found.at, query.ids, 0)
            weights *= clicks / probabilities(self.simulator, found.at, self._pilot, 0).mean(1, keepdims=True)
        return _means(weights, probabilities(self.simulator, found.at, query.ids, self.target.output.step))

    @cached_property
    def _root(self) -> Floats:
        """(6, 6): a campaign's own is this times u ~ N(0, I)."""
        values, vectors = np.linalg.eigh(self.simulator.covariance)
        return np.asarray(vectors * np.sqrt(np.maximum(values, 0)))

    @cached_property
    def _pilot(self) -> NDArray[np.int32]:
        rng = np.random.default_rng([self.seed, 10])
        return rng.integers(1, np.array(SIZES) + 1, (PILOT, len(SIZES)), np.int32)


@dataclass(frozen=True)
class NotAdapted:
    """The few-shot method that knows the process, and nothing of the campaign: the best that a log alone can give."""

    simulator: CampaignSimulator
    target: TaskOutput

    def __call__(self, support: Columns, query: Columns) -> Logs:
        clicks = probabilities(self.simulator, self._own, query.ids, 0)
        given = self.target.output.given is not None  # of a log's rows with a click, more are of campaigns with many
        return _means(
            clicks if given else np.ones_like(clicks),
            probabilities(self.simulator, self._own, query.ids, self.target.output.step),
        )

    @cached_property
    def _own(self) -> Floats:
        return self.simulator.draw_campaigns(DRAWS).reshape(DRAWS, -1)


def probabilities(simulator: CampaignSimulator, own: Floats, ids: NDArray[np.int32], step: int) -> Singles:
    """(S, N) of a step given the one before, for what S campaigns have of their own (S, 6)."""
    ids = ids[:, : len(SIZES)]
    of_step = own.reshape(len(own), 2, -1)[:, step].astype(np.float32)
    logits = simulator.base(ids)[:, step].astype(np.float32) + of_step @ simulator.design(ids).T.astype(np.float32)
    return np.asarray(1 / (1 + np.exp(-logits)))


def _means(weights: Singles, p: Singles) -> Logs:
    """log of the mean of p (S, N) by `weights`, and of 1 - p."""
    mean = (weights * p).sum(0, dtype=np.float64) / weights.sum(0, dtype=np.float64)
    return np.log(mean), np.log1p(-mean)
