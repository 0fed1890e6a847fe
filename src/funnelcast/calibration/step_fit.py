"""Choosing a step's map by cross-fitting: none, affine, or centred isotonic; and offsets by value of a field.

A more flexible map is taken only where it lowers the log-loss of rows that it was not fitted to by more than `CLEAR`
standard errors: chance alone then harms no model that is right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from funnelcast.calibration.step_map import StepMap
from funnelcast.evaluation.group_priors import OffsetPrior
from funnelcast.evaluation.logistic import posterior_mode, sigmoid
from funnelcast.evaluation.rows import Array, Floats
from funnelcast.training.statistics import folds_by_key, folds_of

FOLDS: Final = 5
CLEAR: Final = 2.0
"""Standard errors of a gain, to be more than chance."""
LEAST: Final = 30
"""Rows of each class, without which a step keeps its probabilities."""
PRIOR_STD: Final = (0.5, 1.0)
"""Standard deviations, of slope and shift of an affine map, around 1 and 0."""
FLATTEST: Final = 0.05
"""Slope of an affine map, at least."""
PER_BIN, BINS = 10, 100
"""Rows of the rarer class in a bin of an isotonic map, at least, and bins at most."""
PSEUDO: Final = 2.0
"""Rows that each bin has besides, of the rate that is predicted: so no rate is 0 or 1."""


@dataclass(frozen=True)
class StepRows:
    """Those that a step given its parent is of."""

    x: Floats
    """(N,) log odds that the model gives them."""
    y: Floats
    """(N,) 0 or 1."""
    w: Floats
    """(N,) weights, of mean 1."""
    keys: Array | None = None
    """(N,) rows of one key are not independent: of one user, say."""

    def take(self, where: Array) -> StepRows:
        return StepRows(self.x[where], self.y[where], self.w[where], None if self.keys is None else self.keys[where])

    def folds(self, seed: int) -> NDArray[np.uint8]:
        """(N,) with rows of one key in one fold."""
        return folds_of(len(self.x), FOLDS, seed) if self.keys is None else folds_by_key(self.keys, FOLDS, seed)

    def mapped(self, by: StepMap) -> StepRows:
        return replace(self, x=by(torch.from_numpy(self.x)).numpy())

    @property
    def losses(self) -> Floats:
        """(N,) log-loss."""
        return np.asarray(np.logaddexp(0, self.x) - self.y * self.x)

    @property
    def rarer(self) -> float:
        """Weight of the rarer class."""
        reached = float(self.w @ self.y)
        return min(reached, float(self.w.sum()) - reached)


def fit_step(rows: StepRows, seed: int) -> StepMap:
    """The map of a step; none where it has fewer than `LEAST` rows of either class."""
    if min(rows.rarer, rows.y.sum(), (1 - rows.y).sum()) < LEAST:
        return StepMap()
    folds, best, losses = rows.folds(seed), StepMap(), rows.losses
    for fit in (affine, isotonic):
        own = cross_fitted(rows, folds, fit)
        gain, error = mean_gain(losses - own, rows)
        if gain > CLEAR * error:
            best, losses = fit(rows), own
    gain, error = mean_gain(rows.losses - losses, rows)
    return replace(best, gain=gain, error=error)


def cross_fitted(rows: StepRows, folds: Array, fit: Callable[[StepRows], StepMap]) -> Floats:
    """(N,) log-loss of each row by the map that is fitted to the other folds."""
    losses = np.empty(len(rows.x))
    for fold in range(FOLDS):
        own = folds == fold
        losses[own] = rows.take(own).mapped(fit(rows.take(~own))).losses
    return losses


def mean_gain(gains: Floats, rows: StepRows) -> tuple[float, float]:
    """The weighted mean of gains (N,), and its standard error over keys."""
    mean = float(np.average(gains, weights=rows.w))
    keys = np.arange(len(gains)) if rows.keys is None else np.unique(rows.keys, return_inverse=True)[1].reshape(-1)
    residuals = np.bincount(keys, rows.w * (gains - mean))
    return mean, float(np.sqrt((residuals**2).sum()) / rows.w.sum())


def affine(rows: StepRows) -> StepMap:
    """Y = a (x - c) + c + b, c the mean of x, at the peak of the posterior with a ~ N(1, .5²), b ~ N(0, 1) (Platt
    1999)."""
    center = float(np.average(rows.x, weights=rows.w))
    design = np.stack([PRIOR_STD[0] * (rows.x - center), np.full(len(rows.x), PRIOR_STD[1])], 1)
    slope, shift = posterior_mode(design, rows.x, rows.y, rows.w).at * PRIOR_STD
    slope = max(1 + float(slope), FLATTEST)
    return StepMap("affine", (center,), (center + float(shift),), slope, slope)


def isotonic(rows: StepRows) -> StepMap:
    """Centred isotonic regression (Oron and Flournoy 2017) of bins of equal information Σ p (1 - p): blocks of equal
    rate become one node each, at their mean prediction, with straight lines between the nodes and slope 1 outside."""
    p = sigmoid(rows.x)
    order = np.argsort(rows.x, kind="stable")
    information = np.cumsum((rows.w * p * (1 - p))[order])
    bins = int(np.clip(rows.rarer / PER_BIN, 1, BINS))
    starts = np.searchsorted(information, information[-1] * np.arange(1, bins) / bins)
    which = np.searchsorted(np.unique(rows.x[order][starts]), rows.x, side="right")
    _, which = np.unique(which, return_inverse=True)
    weight, predicted, reached = (np.bincount(which, rows.w * each) for each in (np.ones(len(p)), p, rows.y))
    rates = (reached + PSEUDO * predicted / weight) / (weight + PSEUDO)
    found = isotonic_regression(rates, weights=weight + PSEUDO)
    firsts = found.blocks[:-1]
    means = np.add.reduceat(predicted, firsts) / np.add.reduceat(weight, firsts)
    x, y = logit(means), logit(found.x[firsts])
    return StepMap("isotonic", tuple(x.tolist()), tuple(y.tolist()))


def logit(p: Floats) -> Floats:
    """Log odds."""
    return np.asarray(np.log(p) - np.log1p(-p))


@dataclass(frozen=True)
class StepOffsets:
    """Offsets of a step by group."""

    groups: NDArray[Any]
    """(G,) ascending."""
    values: Floats
    """(G,)."""
    others: float
    """Of a group that has no row."""

    def of(self, groups: Array) -> Floats:
        """(N,) of rows by group."""
        at = np.searchsorted(self.groups, groups).clip(max=len(self.groups) - 1)
        return np.where(self.groups[at] == groups, self.values[at], self.others)


def fit_offsets(rows: StepRows, groups: Array, seed: int) -> StepOffsets | None:
    """Offsets (shrunken: the peak of each group's posterior) for rows whose map is applied; none where these do not
    lower the log-loss of held-out rows."""
    if min(rows.rarer, rows.y.sum(), (1 - rows.y).sum()) < LEAST:
        return None
    prior = OffsetPrior.fit(rows.x, rows.y, groups)
    if prior.std == 0:
        return None
    folds, losses = rows.folds(seed), np.empty(len(rows.x))
    for fold in range(FOLDS):
        own = folds == fold
        new, known = rows.take(own), posterior_offsets(rows.take(~own), groups[~own], prior)
        losses[own] = replace(new, x=new.x + known.of(groups[own])).losses
    gain, error = mean_gain(rows.losses - losses, rows)
    return posterior_offsets(rows, groups, prior) if gain > CLEAR * error else None


def posterior_offsets(rows: StepRows, groups: Array, prior: OffsetPrior) -> StepOffsets:
    """The peak of δ's posterior for each group, by Newton's steps of at most 1."""
    names, which = np.unique(groups, return_inverse=True)
    precision, at = prior.std**-2, np.full(len(names), prior.mean)
    for _ in range(100):
        p = sigmoid(rows.x + at[which])
        slope = np.bincount(which, rows.w * (rows.y - p)) - precision * (at - prior.mean)
        step = (slope / (np.bincount(which, rows.w * p * (1 - p)) + precision)).clip(-1, 1)
        at = at + step
        if np.abs(step).max() < 1e-9:
            break
    return StepOffsets(names, at, prior.mean)
