"""Choosing the pairs of features whose target statistics tell more than those of each alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from funnelcast.boosting.stacked import network_of
from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns
from funnelcast.data.encoder import Encoder
from funnelcast.data.table import Table
from funnelcast.evaluation.logistic import sigmoid
from funnelcast.experiments.baselines.fit import LOGISTIC, fit_simple, logits_of
from funnelcast.experiments.baselines.rows import FOLDS, Rates, View, chunks, sample
from funnelcast.experiments.experiment import Experiment
from funnelcast.experiments.folds import with_folds
from funnelcast.models.network import NetworkRecipe
from funnelcast.serving.bundle import Bundle
from funnelcast.training.losses import rates_given_parent
from funnelcast.training.statistics import step_rows

ROWS: Final = 100_000
"""At most so many training rows, sampled, decide."""
STRENGTH: Final = 30.0
"""Curvature, in rows times p (1 − p), that draws the correction of each pair of values to 0."""
CERTAIN: Final = 4.0
"""Standard errors of a gain that is taken for one: of hundreds of pairs hardly any passes by chance."""
COMMON: Final = 50
"""Training rows with the same pair of values that the median row must have: of rare pairs inputs are mostly noise."""
Floats = NDArray[np.float64]
Pair = tuple[int, int]


def with_crosses(experiment: Experiment, table: Table, encoder: Encoder, init: Bundle | None = None) -> Experiment:
    """The experiment with pairs in place of their number: those of the bundle that training starts from, or what the
    training rows choose."""
    recipe = experiment.model
    statistics = recipe.statistics if isinstance(recipe, NetworkRecipe) else None
    if statistics is None or not isinstance(statistics.crosses, int):
        return experiment
    layer = None if init is None else network_of(init.model).statistics
    if layer is None:
        train = with_folds(table, table.part("train"), FOLDS, experiment.seed)
        pairs = find_crosses(encoder, train, statistics.crosses)
    else:
        pairs = tuple(layer.crosses.values())
    chosen = statistics.model_copy(update={"crosses": pairs})
    return experiment.model_copy(update={"model": recipe.model_copy(update={"statistics": chosen})})


def find_crosses(encoder: Encoder, train: Columns, most: int) -> tuple[tuple[str, str], ...]:
    """At most `most` pairs of fields or numbers, the best first, of those whose pairs of values are common.

    What every column tells alone is a logistic regression on their rates. A pair's correction of it is, for each pair
    of values, a Newton step of the log odds on the rows of other folds; its gain is by how much that lowers the
    log-loss of the rows. The pair that gains most over all steps, in parts of their constants' losses, is chosen and
    its correction kept, and so on, as long as a gain is certain.
    Folds are those that `train` names, or drawn at random: then rows of one key that agree in features and labels raise
    the gains of pairs that tell them apart.
    """
    if not most:
        return ()
    parents = encoder.schema.funnel.parents
    sampled = train.take(sample(len(train), ROWS))
    rates = Rates.fit(encoder.inputs, sampled, parents)
    names = [name for name, _ in rates.reader.inputs.fields]
    codes = rates.reader(sampled).ids.numpy().astype(np.int64).T.copy()
    steps = [step for step in _steps(rates, sampled, parents) if len(step.rows)]
    least = COMMON * len(sampled) / len(train)
    pairs = [pair for pair in combinations(range(len(names)), 2) if _rows_alike(codes, pair) >= least]
    gains = {pair: gain for pair in pairs if (gain := _gain(steps, codes, pair)) > 0}
    chosen: list[Pair] = []
    while gains and len(chosen) < most:
        best = _take_best(gains, steps, codes)
        if best is not None:
            chosen.append(best)
            for step in steps:
                step.correct(codes, best)
    return tuple((names[a], names[b]) for a, b in chosen)


def _rows_alike(codes: NDArray[np.int64], pair: Pair) -> float:
    """How many rows have the median row's pair of values."""
    cross_ids, count = _cross_ids(*codes[list(pair)])
    return float(np.median(np.bincount(cross_ids, minlength=count)[cross_ids]))


def _cross_ids(first: NDArray[np.int64], second: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """A number for the pair of values of each row, and how many numbers there are."""
    width = int(second.max()) + 1
    cross_ids, count = first * width + second, (int(first.max()) + 1) * width
    if count > len(cross_ids):
        _, cross_ids = np.unique(cross_ids, return_inverse=True)
        count = int(cross_ids.max()) + 1
    return cross_ids, count


def _take_best(gains: dict[Pair, float], steps: list[_Step], codes: NDArray[np.int64]) -> Pair | None:
    """Take the best pair out of `gains`, which were measured before other pairs were chosen: they are measured again
    from the highest on, as corrections seldom raise a gain, until one stays the highest."""
    measured = set[Pair]()
    while gains:
        best = max(gains, key=lambda pair: gains[pair])
        if best in measured:
            del gains[best]
            return best
        measured.add(best)
        gains[best] = _gain(steps, codes, best)
        if gains[best] <= 0:
            del gains[best]
    return None


def _gain(steps: list[_Step], codes: NDArray[np.int64], pair: Pair) -> float:
    """Of the steps where it is certain, in parts of their constants' losses."""
    found = (step.gain(codes, pair) for step in steps)
    return sum(gain for gain, is_certain in found if is_certain)


class _Correction(NamedTuple):
    of_rows: Floats  # (n,) added to log odds
    gains: Floats  # (n,) in nats, to second order


@dataclass
class _Step:
    """A step among the rows that reached the one before."""

    rows: NDArray[np.int64]  # (n,)
    folds: NDArray[np.int64]  # (n,)
    labels: Floats  # (n,)
    weight: Floats  # (n,)
    logits: Floats  # (n,) by all that is known so far
    constant: float
    """Log-loss of its rate."""

    def gain(self, codes: NDArray[np.int64], pair: Pair) -> tuple[float, bool]:
        """Mean over the rows, in parts of the constant's loss, and whether it is certain."""
        gains = self.correction(codes, pair).gains
        mean, error = float(gains.mean()), float(gains.std()) / len(gains) ** 0.5
        return mean / self.constant, mean > CERTAIN * error

    def correct(self, codes: NDArray[np.int64], pair: Pair) -> None:
        """Keep a pair's correction where its gain is certain."""
        if self.gain(codes, pair)[1]:
            self.logits = self.logits + self.correction(codes, pair).of_rows
            del self._derivatives

    @cached_property
    def _derivatives(self) -> tuple[Floats, Floats]:
        """(n,) each: of minus the loss, by the log odds, and minus the second one."""
        p = sigmoid(self.logits)
        return self.weight * (self.labels - p), self.weight * p * (1 - p)

    def correction(self, codes: NDArray[np.int64], pair: Pair) -> _Correction:
        """By the rows of other folds."""
        cross_ids, count = _cross_ids(*(codes[feature, self.rows] for feature in pair))
        slope, curve = self._derivatives
        at = self.folds * count + cross_ids
        own = [np.bincount(at, each, FOLDS * count).reshape(FOLDS, count) for each in (slope, curve)]
        slopes, curves = (each.sum(0) - each for each in own)
        step = (slopes / (curves + STRENGTH)).ravel()[at]
        return _Correction(step, step * slope - step**2 * curve / 2)


def _steps(rates: Rates, sampled: Columns, parents: tuple[int, ...]) -> Iterator[_Step]:
    constants = rates_given_parent(Batch.of(sampled), parents)
    logit = [np.log(rate / (1 - rate)) if 0 < rate < 1 else 0.0 for rate in constants]
    simple = fit_simple(rates, parents, logit)
    views: list[View] = [rates.of_training(chunk) for chunk in chunks(len(sampled))]
    base = np.concatenate([logits_of(simple.steps, view, simple.mean, simple.scale)[LOGISTIC] for view in views])
    labels = cast(NDArray[np.uint8], sampled.labels)
    counted = step_rows(labels, parents)
    weight = np.ones(len(sampled)) if sampled.weight is None else sampled.weight.astype(np.float64)
    for t, rate in enumerate(constants):
        own = np.flatnonzero(counted[:, t] & (weight > 0)) if 0 < rate < 1 else np.empty(0, np.int64)
        entropy = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate)) if len(own) else 1.0
        y = (labels[own, t] == 1).astype(np.float64)
        yield _Step(own, rates.folds[own].astype(np.int64), y, weight[own], base[own, t], entropy)
