"""Metrics of every output of a funnel, each over exactly the rows its name promises."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from funnelcast.data.columns import UNOBSERVED
from funnelcast.evaluation.metrics import Metrics, measure
from funnelcast.evaluation.rows import Array, Bools, Floats
from funnelcast.schema.funnel import Funnel, Output

CONDITIONAL_LOG_Q_FLOOR = math.log(1e-7)
"""Least log q of a conditional. A ratio of two float32 reaches within 1e-7 of 1 is rounding noise, and a ratio cut to 1
would make one unconverted row's log-loss infinite."""


@dataclass(frozen=True)
class FunnelMetrics:
    """Metrics by output name; `cut` counts, by conditional output, the measured rows whose ratio was cut to 1."""

    outputs: dict[str, Metrics]
    cut: dict[str, int]


def measure_funnel(
    funnel: Funnel, labels: Array, log_p: Array, log_q: Array, weights: Array | None = None
) -> FunnelMetrics:
    """Metrics of every output of `funnel.outputs`.

    labels (N, T) uint8, 0, 1 or 255 for not observed; log_p, log_q (N, T) natural logs of the probabilities of having
    and of not having reached each step; weights (N,) >= 0. A step is measured over the rows that observed its label; a
    step given its parent over those of them whose parent's label is 1. Raises ValueError if the shapes disagree.
    """
    shape = (len(labels), len(funnel.names))
    if not labels.shape == log_p.shape == log_q.shape == shape:
        raise ValueError(f"labels, log_p and log_q must be {shape}, got {labels.shape}, {log_p.shape}, {log_q.shape}")
    outputs, cut = {}, {}
    for output in funnel.outputs:
        rows = sample_space(output, labels)
        step_p, step_q = log_p[rows, output.step], log_q[rows, output.step]
        if output.given is not None:
            step_p, step_q, is_cut = conditional(step_p, log_p[rows, output.given])
            cut[output.name] = int(np.count_nonzero(is_cut))
        of_rows = None if weights is None else weights[rows]
        outputs[output.name] = measure(labels[rows, output.step], step_p, step_q, of_rows)
    return FunnelMetrics(outputs, cut)


def sample_space(output: Output, labels: Array) -> Bools:
    """(N,) the rows of labels (N, T) an output is measured over: step observed and, if conditional, parent reached."""
    observed: Bools = labels[:, output.step] != UNOBSERVED
    return observed if output.given is None else observed & (labels[:, output.given] == 1)


def conditional(log_p: Array, parent_log_p: Array) -> tuple[Floats, Floats, Bools]:
    """Log p(step | parent) and log q of it from the log-probabilities of reaching either, all of one shape, finite.

    p is min(1, ratio); the third array marks the rows where the ratio was above 1 and was cut. log q is at least
    `CONDITIONAL_LOG_Q_FLOOR`, log(1 − p) above it, computed as in Mächler (2012).
    """
    ratio = np.subtract(log_p, parent_log_p, dtype=np.float64)
    is_cut: Bools = ratio > 0
    log_ratio = np.minimum(ratio, 0.0)
    return log_ratio, np.maximum(_log1mexp(log_ratio), CONDITIONAL_LOG_Q_FLOOR), is_cut


def _log1mexp(x: Floats) -> Floats:
    """log(1 − exp(x)) for x <= 0, to full relative accuracy; the value at half the floor's q for x nearer to 0."""
    x = np.minimum(x, -0.5 * math.exp(CONDITIONAL_LOG_Q_FLOOR))
    near = np.log(-np.expm1(np.maximum(x, -1.0)))
    far = np.log1p(-np.exp(np.minimum(x, -0.5)))
    return np.where(x > -math.log(2), near, far)
