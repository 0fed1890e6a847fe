"""Logistic regression with a penalty on the squares of its coefficients, by Newton's method over blocks of rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from funnelcast.evaluation.logistic import sigmoid, softplus

Floats = NDArray[np.float64]
BLOCK = 16384
STEPS, HALVINGS = 50, 30
CLOSE = 1e-12
"""Twice what a step gains per row where it is the last one: what it leaves is of the order of its square."""


class Line(NamedTuple):
    """logit p = intercept + x · coefficients."""

    intercept: float
    coefficients: Floats  # (D,)

    def __call__(self, x: NDArray[Any]) -> Floats:
        """(B, D) -> logits (B,)."""
        return np.asarray(self.intercept + x @ self.coefficients)


class _Pass(NamedTuple):
    value: float
    slope: Floats  # (1 + D,)
    curvature: Floats  # (1 + D, 1 + D)


def fit_logistic(x: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None = None, l2: float = 1.0) -> Line:
    """The least Σ w · log-loss + l2 / 2 · |coefficients|²; the intercept is free.

    x (n, D) of any float type, labels (n,) in {0, 1} of both classes, weights (n,) >= 0. Sums are in float64.
    """
    y, w = labels.astype(np.float64), np.ones(len(labels)) if weights is None else weights.astype(np.float64)
    rate = float(np.average(y, weights=w))
    at = np.zeros(1 + x.shape[1])
    at[0] = np.log(rate / (1 - rate))
    now = _through(x, y, w, l2, at)
    for _ in range(STEPS):
        step = np.linalg.solve(now.curvature, now.slope)
        if now.slope @ step < CLOSE * w.sum():
            at = at - step
            break
        for _ in range(HALVINGS):
            after = _through(x, y, w, l2, at - step)
            if after.value <= now.value:
                break
            step /= 2
        else:
            break
        at, now = at - step, after
    return Line(float(at[0]), at[1:])


def _through(x: NDArray[Any], y: Floats, w: Floats, l2: float, at: Floats) -> _Pass:
    """Value, slope and curvature, added up over the rows."""
    penalty = np.full(len(at), l2)
    penalty[0] = 0
    value, slope, curvature = float(penalty @ at**2) / 2, penalty * at, np.diag(penalty)
    for start in range(0, len(y), BLOCK):
        rows = slice(start, start + BLOCK)
        block = np.ones((len(y[rows]), len(at)))
        block[:, 1:] = x[rows]
        logits = block @ at
        p = sigmoid(logits)
        value += float(w[rows] @ (softplus(logits) - y[rows] * logits))
        slope += block.T @ (w[rows] * (p - y[rows]))
        curvature += block.T @ (block * (w[rows] * p * (1 - p))[:, None])
    return _Pass(value, slope, curvature)
