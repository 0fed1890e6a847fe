"""Steps that have collapsed: constant, ranked below chance, or worse than the constant rate, beyond noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from funnelcast.data.columns import UNOBSERVED
from funnelcast.evaluation.auc import Interval
from funnelcast.evaluation.funnel import FunnelMetrics, conditional, sample_space
from funnelcast.evaluation.paired import loss_difference
from funnelcast.evaluation.rows import Array, Floats
from funnelcast.schema.funnel import Funnel, Output

Problem = Literal["constant", "auc", "log_loss"]
ALIKE = 1e-4
"""Predictions are constant where neither log p nor log q differs by more: float32 products of one number do by 1e-6."""
LEAST = 50
"""Rows under which predictions are not called constant: so few may well be of one kind."""
DEAD = (
    "its tower is dead, or nothing tells its rows apart; try another seed, a lower learning_rate, the preset "
    "recommended, or drop the step"
)
HARMFUL = (
    "what it learned does not hold on these rows; try the preset recommended, a lower learning_rate, more rows, or "
    "drop the step, and look at the table with funnelcast doctor"
)
REMEDY = {"constant": DEAD, "auc": HARMFUL, "log_loss": HARMFUL}
"""What to do."""


class Finding(NamedTuple):
    """What is wrong with an output."""

    output: str
    problems: tuple[Problem, ...]
    said: str
    """The output and the figures."""

    @property
    def text(self) -> str:
        """A sentence with the figures and what to do."""
        return f"{self.said}: {REMEDY[self.problems[0]]}"


def step_rates(labels: Array, weights: Array | None = None) -> list[float]:
    """Rate of each step among the rows of labels (N, T) that observed it, by weight; NaN without any."""
    rates = []
    for column in labels.T:
        rows = column != UNOBSERVED
        w = rows.astype(np.float64) if weights is None else rows * weights
        total = float(w.sum())
        rates.append(float(w[column == 1].sum()) / total if total else math.nan)
    return rates


def constant_rate(output: Output, rates: Sequence[float]) -> float:
    """What the constant predictor says of an output, from the rates (T) of the steps."""
    if output.given is None:
        return rates[output.step]
    return rates[output.step] / rates[output.given] if rates[output.given] else math.nan


def find_collapsed(
    funnel: Funnel,
    labels: Array,
    log_p: Array,
    log_q: Array,
    weights: Array | None,
    rates: Sequence[float],
    measured: FunnelMetrics,
) -> list[Finding]:
    """The outputs that are not healthy, in the funnel's order.

    Arguments as for `measure_funnel`, whose result for them is `measured`; rates (T): of the steps in training. An
    output is named where its predictions are constant, where the 95 % interval of its AUC lies below .5, or where that
    of the mean difference of log-loss to the constant rate's, row by row, lies above 0; the last two need 10 rows of
    either class. Rows of a healthy output are not gone through again.
    """
    found = []
    for output in funnel.outputs:
        auc, rate = measured.outputs[output.name].auc, constant_rate(output, rates)
        rows = sample_space(output, labels)
        y = labels[rows, output.step] == 1
        w = None if weights is None else weights[rows].astype(np.float64)
        may_be_worse = 0 < rate < 1 and measured.outputs[output.name].log_loss > _loss_of(rate, y, w)
        below = not math.isnan(auc.high) and auc.high < 0.5
        if not below and not may_be_worse and auc.low > 0.5:
            continue
        step_p, step_q = log_p[rows, output.step], log_q[rows, output.step]
        if output.given is not None:
            step_p, step_q, _ = conditional(step_p, log_p[rows, output.given])
        if len(y) >= LEAST and is_constant(step_p, step_q):
            found.append(_finding(output, ["constant"], [_constant_text(step_p)]))
            continue
        worse = loss_difference(y, (step_p, step_q), _constant(rate), w) if may_be_worse else None
        said = dict(_said(auc if below else None, worse))
        if said:
            found.append(_finding(output, list(said), list(said.values())))
    return found


def is_constant(log_p: Array, log_q: Array) -> bool:
    """Whether predictions (N,) are all one number, but for rounding."""
    return all(len(each) > 0 and float(each.max()) - float(each.min()) <= ALIKE for each in (log_p, log_q))


def _said(below: Interval | None, worse: Interval | None) -> Iterator[tuple[Problem, str]]:
    if below is not None:
        yield "auc", f"AUC {below.estimate:.4f} [{below.low:.4f}, {below.high:.4f}] is below chance"
    if worse is not None and worse.low > 0:
        bounds = f"[{worse.low:.5f}, {worse.high:.5f}]"
        yield "log_loss", f"log-loss is worse than the constant rate's by {worse.estimate:.5f} {bounds}"


def _finding(output: Output, problems: list[Problem], said: list[str]) -> Finding:
    return Finding(output.name, tuple(problems), f"{output.name}: {' and '.join(said)}")


def _constant_text(log_p: Array) -> str:
    return f"one prediction for all rows ({math.exp(float(log_p[0])):.4g})"


def _constant(rate: float) -> tuple[float, float]:
    return math.log(rate), math.log1p(-rate)


def _loss_of(rate: float, y: Array, w: Floats | None) -> float:
    """Log-loss of one probability in (0, 1) for all rows; infinite without rows."""
    total = float(len(y) if w is None else w.sum())
    share = float(np.count_nonzero(y) if w is None else w[y].sum()) / total if total else math.nan
    return -share * math.log(rate) - (1 - share) * math.log1p(-rate) if total else math.inf
