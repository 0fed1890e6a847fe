"""Rows as metrics need them: checked labels and weights, runs of ties, running sums of weight."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Starts = NDArray[np.intp]


def check_rows(labels: Array, *columns: Array, weights: Array | None = None) -> tuple[Bools, Floats]:
    """(N,) labels as bool and (N,) weights as float64 with 1 the largest. Raises ValueError, naming the rule."""
    given = columns if weights is None else (*columns, weights)
    if labels.ndim != 1 or any(column.shape != labels.shape for column in given):
        raise ValueError(f"labels, scores and weights must be (N,) alike, got {[a.shape for a in (labels, *given)]}")
    if np.any((labels != 0) & (labels != 1)):
        raise ValueError("labels must be 0 or 1; leave out rows whose label was not observed (255)")
    if weights is None:
        return labels.astype(bool), np.ones(len(labels))
    if not np.all((weights >= 0) & np.isfinite(weights)):
        raise ValueError("weights must be finite and not negative")
    w = weights.astype(np.float64)
    return labels.astype(bool), w / (w.max(initial=0.0) or 1.0)


def tie_starts(*ordered: Array) -> Starts:
    """Where each run of equal rows begins in columns (N,) sorted together."""
    changes = [column[1:] != column[:-1] for column in ordered]
    return np.flatnonzero(np.concatenate([np.ones(min(1, len(ordered[0])), bool), np.logical_or.reduce(changes)]))


def cumulative(mass: Floats) -> Floats:
    """(N,) -> (N + 1,): the mass before each row, and the total."""
    return np.cumsum(np.concatenate([[0.0], mass]))


def midpoints(cum: Floats, starts: Starts) -> Floats:
    """(N,) the mass before each row's run of ties plus half the run's own."""
    ends = np.append(starts[1:], len(cum) - 1)
    return np.repeat((cum[starts] + cum[ends]) / 2, ends - starts)
