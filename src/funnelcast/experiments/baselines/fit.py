"""Fitting the baselines that are made of rates: the best column, the sum of rate logits, logistic regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.columns import Columns
from funnelcast.evaluation.metrics import log_loss
from funnelcast.experiments.baselines.logistic import Line, fit_logistic
from funnelcast.experiments.baselines.rows import Rates, View, chunks, sample
from funnelcast.training.statistics import step_rows

Floats = NDArray[np.float64]
ROWS = 500_000
"""At most so many training rows, sampled, decide rates and coefficients."""
NUMBERS, PRODUCTS = 1e7, 4e9
"""Logistic regression reads at most so many numbers; so many products at most make its curvature."""
L2, FREE = 10.0, 1e-9
"""Penalty on the coefficients of standardised columns, and on the factor of the sum: none to speak of."""

CONSTANT, COLUMN, SUM, LOGISTIC = "constant rate", "best column", "sum of rate logits", "logistic regression"
NAMES = (CONSTANT, COLUMN, SUM, LOGISTIC)


class Step(NamedTuple):
    """What is fitted of a step, given the step before."""

    constant: float
    """Logit of its rate."""
    column: int = -1
    """The best one; -1 where there is none, and all baselines are the constant."""
    total: Line | None = None
    """Of the sum of rate logits."""
    regression: Line | None = None


@dataclass(frozen=True)
class Simple:
    """All of them, by step."""

    rates: Rates
    steps: tuple[Step, ...]
    mean: Floats
    scale: Floats

    def column(self, step: int) -> str | None:
        """The name of a step's best column."""
        place = self.steps[step].column
        return self.rates.columns[place] if place >= 0 else None

    def logits(self, rows: Columns) -> dict[str, Floats]:
        """By baseline, (B, T) of each step given the step before."""
        return logits_of(self.steps, self.rates(rows), self.mean, self.scale)


def logits_of(steps: tuple[Step, ...], view: View, mean: Floats, scale: Floats) -> dict[str, Floats]:
    """By baseline, (B, T)."""
    count, logits = len(view.rates), np.log(view.rates) - np.log1p(-view.rates)
    found = {name: np.repeat([[step.constant for step in steps]], count, 0) for name in NAMES}
    x = _design(view, mean, scale)
    for t, step in enumerate(steps):
        if step.total is not None and step.regression is not None:
            found[COLUMN][:, t] = logits[:, step.column, t]
            found[SUM][:, t] = step.total((logits[:, :, t] - step.constant).sum(1)[:, None])
            found[LOGISTIC][:, t] = step.regression(x)
    return found


def fit_simple(rates: Rates, parents: tuple[int, ...], constants: list[float]) -> Simple:
    """On the sampled training rows, each by the rates of others. `constants` (T): logits of the rates of all training
    rows, given the step before."""
    train = rates.train
    assert train.labels is not None
    width = len(rates.columns) * (len(parents) + 1) + len(rates.columns) + train.numeric.shape[1]
    rows = sample(len(train), int(min(ROWS, NUMBERS / width, PRODUCTS / width**2)))
    view = _joined([rates.of_training(rows[chunk]) for chunk in chunks(len(rows))])
    raw = _design(view, np.zeros(1), np.ones(1))
    mean, scale = raw.mean(0, dtype=np.float64), raw.std(0, dtype=np.float64)
    scale[scale < 1e-6] = 1
    x = ((raw - mean) / scale).astype(np.float32)
    counted, labels = step_rows(train.labels[rows], parents), train.labels[rows] == 1
    weight = np.ones(len(rows)) if train.weight is None else train.weight[rows].astype(np.float64)
    steps = []
    for t, constant in enumerate(constants):
        own = np.flatnonzero(counted[:, t] & (weight > 0))
        y, w = labels[own, t], weight[own]
        has_both = y.any() and not y.all()
        steps.append(_step(view.rates[own, :, t], x[own], y, w, constant) if has_both else Step(constant))
    return Simple(rates, tuple(steps), mean, scale)


def _step(rates: Floats, x: NDArray[np.float32], y: NDArray[np.bool_], w: Floats, constant: float) -> Step:
    """Rates (n, C) of the step's own rows."""
    losses = [log_loss(y, np.log(column), np.log1p(-column), w) for column in rates.T]
    total = (np.log(rates) - np.log1p(-rates) - constant).sum(1)[:, None]
    return Step(constant, int(np.argmin(losses)), fit_logistic(total, y, w, FREE), fit_logistic(x, y, w, L2))


def _design(view: View, mean: Floats, scale: Floats) -> Floats:
    """(B, D): logits of all rates, and the other numbers, standardised."""
    logits = np.log(view.rates) - np.log1p(-view.rates)
    return np.asarray((np.concatenate([logits.reshape(len(logits), -1), view.others], 1) - mean) / scale)


def _joined(views: list[View]) -> View:
    return View(np.concatenate([view.rates for view in views]), np.concatenate([view.others for view in views]))
