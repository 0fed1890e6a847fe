"""Calibration within groups (campaigns, placements): what sums of labels differ from sums of probabilities."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from funnelcast.evaluation.rows import Array, Floats, check_rows

EPSILON: Final = 0.01
"""Added to each label in the denominator of field-RCE, as groups without a positive have none."""
DRAWS: Final = 20
"""Sets of labels that the noise floors are means of."""


@dataclass(frozen=True)
class GroupCalibration:
    """Calibration errors over groups, and by group in sorted order; NaN without rows."""

    observed_over_predicted: Floats
    """(G,) sum of labels over sum of probabilities; NaN where nothing is predicted."""
    field_ece: float
    field_rce: float
    field_ece_floor: float
    """What field-ECE would be in the mean if the probabilities were true: chance alone."""
    field_rce_floor: float


def group_calibration(
    labels: Array, p: Array, groups: Array, weights: Array | None = None, *, draws: int = DRAWS, seed: int = 0
) -> GroupCalibration:
    """Measure field-ECE and field-RCE (Pan et al. 2020) over groups g, and their noise floors.

        field-ECE = Σ_g |Σ_{i∈g} wᵢ (yᵢ − pᵢ)| / W,
        field-RCE = Σ_g W_g |Σ_{i∈g} wᵢ (yᵢ − pᵢ)| / Σ_{i∈g} wᵢ (yᵢ + ε) / W,     W_g = Σ_{i∈g} wᵢ,  W = Σ_g W_g.

    A noise floor is the mean of the same figure over sets of labels that are drawn from the probabilities themselves.

    Args:
        labels: (N,) in {0, 1}.
        p: (N,) probabilities.
        groups: (N,) integers or strings.
        weights: (N,) >= 0; none for 1 each.
        draws: sets of labels for the floors.
        seed: of the draws.

    Raises:
        ValueError: as of `auc`.
    """
    y, w = check_rows(labels, p, groups, weights=weights)
    p = p.astype(np.float64)
    names, inverse = np.unique(groups, return_inverse=True)

    def per_group(mass: Array) -> Floats:
        return np.asarray(np.bincount(inverse, weights=mass, minlength=len(names)), np.float64)

    predicted, mass = per_group(w * p), per_group(w)

    def errors(observed: Floats) -> tuple[float, float]:
        gaps = np.abs(observed - predicted)
        expected = observed + EPSILON * mass
        relative = np.divide(mass * gaps, expected, out=np.zeros_like(gaps), where=expected > 0)
        return float(gaps.sum() / mass.sum()), float(relative.sum() / mass.sum())

    if not np.any(w):
        return GroupCalibration(np.full(len(names), math.nan), *[math.nan] * 4)
    observed, draw = per_group(w * y), np.random.default_rng(seed)
    floors = np.mean([errors(per_group(w * (draw.random(len(p)) < p))) for _ in range(draws)], axis=0)
    ratio = np.divide(observed, predicted, out=np.full(len(names), math.nan), where=predicted > 0)
    return GroupCalibration(ratio, *errors(observed), *map(float, floors))
