"""Logistic regression of few numbers under a normal prior: where its posterior is highest, and how sharp there."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from funnelcast.evaluation.rows import Array, Floats

STEPS, HALVINGS = 100, 30
CLOSE = 1e-10


class Mode(NamedTuple):
    """The peak of a posterior."""

    at: Floats  # (D,)
    curvature: Floats  # (D, D) of -log of the posterior, positive definite


def posterior_mode(design: Floats, base: Floats, labels: Array, weights: Floats | None = None) -> Mode:
    """Of u ~ N(0, I) (D,), where the labels (N,) in {0, 1} have logit p = base (N,) + design (N, D) u. `weights` (N,):
    how often a row counts; 1 for none.

    By Newton's method; a step is halved until it leads down. Without rows it is the prior's own.
    """
    u, w = np.zeros(design.shape[1]), np.ones(len(base)) if weights is None else weights
    value = _surprise(design, base, labels, w, u)
    for _ in range(STEPS):
        p = sigmoid(base + design @ u)
        slope = u + design.T @ (w * (p - labels))
        curvature = np.eye(len(u)) + design.T @ (design * (w * p * (1 - p))[:, None])
        step = np.linalg.solve(curvature, slope)
        if slope @ step < CLOSE:
            break
        for _ in range(HALVINGS):
            after = _surprise(design, base, labels, w, u - step)
            if after <= value:
                break
            step /= 2
        u, value = u - step, after
    return Mode(u, curvature)


def sigmoid(logits: Floats) -> Floats:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 + 0.5 * np.tanh(logits / 2))


def softplus(logits: Floats) -> Floats:
    """log(1 + exp(x)) = -log(1 - sigmoid(x))."""
    return np.asarray(np.logaddexp(0, logits))


def _surprise(design: Floats, base: Floats, labels: Array, w: Floats, u: Floats) -> float:
    """-log of the posterior, but for a constant."""
    logits = base + design @ u
    return float(w @ softplus(logits) - (w * labels) @ logits + u @ u / 2)
