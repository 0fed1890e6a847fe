"""Which models of a benchmark are told apart from the best one, by what its results hold: gains over the reference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from funnelcast.evaluation.auc import Interval
from funnelcast.evaluation.multiple import holm, p_value

Models = Mapping[str, Any]
NOTHING = Interval(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Best:
    """The highest mean AUC of an output, and how sure it is that others are lower."""

    model: str
    auc: float
    p: dict[str, float | None] = field(default_factory=dict)
    """Of the other models, corrected by Holm; none where a gain has no interval."""

    def is_apart(self, model: str) -> bool:
        """Whether a model is lower for sure."""
        p = self.p.get(model)
        return p is not None and p < 0.05


def best_of(models: Models, reference: str, output: str) -> Best | None:
    """The best of an output, and which others are told apart from it; none where no model has an AUC.

    Of two gains over one reference only the intervals are known, not what they share. The standard error of their
    difference is at most the sum of theirs, whatever they share, so with the sums of errors and of half widths the
    test is a cautious one: it may miss a difference, and finds none too many.
    """
    means = {name: mean for name, model in models.items() if (mean := _mean(model, output)) is not None}
    if not means:
        return None
    best = max(means, key=lambda name: means[name])
    others = [name for name in means if name != best]
    gains = {name: NOTHING if name == reference else _gain(models[name], output) for name in means}
    p = holm(np.array([p_value(difference(gains[best], gains[name])) for name in others], np.float64))
    known = {name: None if math.isnan(value) else float(value) for name, value in zip(others, p, strict=True)}
    return Best(best, means[best], known)


def difference(a: Interval, b: Interval) -> Interval:
    """a - b with bounds that hold whatever the two share."""
    half = sum(max(each.high - each.estimate, each.estimate - each.low) for each in (a, b))
    estimate = a.estimate - b.estimate
    return Interval(estimate, estimate - half, estimate + half, a.std_error + b.std_error)


def _mean(model: Mapping[str, Any], output: str) -> float | None:
    found: float | None = model["figures"].get(output, {}).get("auc", {}).get("mean")
    return found


def _gain(model: Mapping[str, Any], output: str) -> Interval:
    gain = model["gains"].get(output, {})
    estimate, low, high, error = (
        math.nan if gain.get(key) is None else float(gain[key]) for key in ("estimate", "low", "high", "std_error")
    )
    return Interval(estimate, low, high, error)
