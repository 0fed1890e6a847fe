"""The rate of a group that has few rows, drawn towards that of all groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from funnelcast.evaluation.rows import Array


@dataclass(frozen=True)
class RatePrior:
    """Rates of groups are distributed as Beta(strength · rate, strength · (1 - rate))."""

    rate: float
    strength: float
    """As many rows of a group tell as much as this."""

    @classmethod
    def fit(cls, labels: Array, groups: Array) -> RatePrior:
        """By moments (Kleinman 1973), of labels (N,) in {0, 1} in groups (N,): with r the rate of all N rows, n_g and
        r_g rows and rate of each of G groups, and ρ = 1 / (1 + strength),

            E Σ n_g (r_g - r)² = r (1 - r) ((1 - ρ) (G - 1) + ρ (N - Σ n_g² / N))
        """
        _, codes = np.unique(groups, return_inverse=True)
        rows, positives = np.bincount(codes), np.bincount(codes, labels)
        total = float(rows.sum())
        rate = float(np.clip(positives.sum(), 0.5, total - 0.5)) / total
        spread = float(rows @ (positives / rows - rate) ** 2) / (rate * (1 - rate))
        within = len(rows) - 1
        room = total - float(rows @ rows) / total - within  # 0 if all groups have one row, which tell nothing of ρ
        share = (spread - within) / max(room, 1.0) if room > 0 else 0.0
        share = min(max(share, 1e-6), 1 - 1e-6)
        return cls(rate, 1 / share - 1)

    def smoothed(self, positives: float, rows: float) -> float:
        """The mean of a group's rate, of which `positives` among `rows` are known."""
        return (positives + self.strength * self.rate) / (rows + self.strength)
