"""Two models' probabilities of the same rows without labels: paired differences, in sums that add up."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np

from funnelcast.evaluation.rows import Array, Floats

SMALLEST: Final = 1e-6
"""Differences of logits below it count as none."""
RATIO: Final = 1.02
"""Between the edges of the bins of larger ones, so that a quantile is known to 1 %."""
QUANTILES: Final = (1, 10, 50, 90, 99)
"""Percentages, of the difference of logits."""
_LEAST: Final = 1e-38
"""A probability is taken to be at least that, and 2^-53 below 1, where its logit is taken."""


@dataclass
class ProbabilityDifference:
    """What a second model says more than a first one, over groups of rows, such as requests."""

    rows: int = 0
    groups: int = 0
    first: float = 0.0
    """Sum of the first model's probabilities."""
    second: float = 0.0
    squares: float = 0.0
    """Σ s², of the sums s of the groups' differences; `products` is Σ s n of groups of n rows, `sizes` Σ n²."""
    products: float = 0.0
    sizes: float = 0.0
    largest: float = 0.0
    """Absolute difference of a row."""
    bins: Counter[str] = field(default_factory=Counter)
    """Rows by bin of the difference of logits: "0", "1" … upwards from `SMALLEST`, "-1" … downwards."""

    def add(self, first: Array, second: Array) -> None:
        """Both models' probabilities (N,) of a group."""
        difference = second - first
        total, rows = float(difference.sum()), len(difference)
        largest = float(np.abs(difference).max(initial=0.0))
        bins, counts = np.unique(_bins_of(_logits(second) - _logits(first)), return_counts=True)
        found = Counter(dict(zip(map(str, bins.tolist()), counts.tolist(), strict=True)))
        sums = (float(first.sum()), float(second.sum()), total**2, total * rows, float(rows**2))
        self.merge(ProbabilityDifference(rows, 1, *sums, largest, found))

    def merge(self, other: ProbabilityDifference) -> None:
        """Take in other groups."""
        for name in ("rows", "groups", "first", "second", "squares", "products", "sizes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.largest = max(self.largest, other.largest)
        self.bins.update(other.bins)

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {"bins": dict(self.bins)}

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> ProbabilityDifference:
        """From what `as_dict` says."""
        return cls(**{**said, "bins": Counter(said["bins"])})

    def figures(self, first: str, second: str) -> dict[str, Any]:
        """Means by the models' names, the mean paired difference, second - first, with its standard error by groups,
        which are taken to be independent; the largest absolute difference; quantiles of the difference of logits, to
        1 %. None where there are no rows, or too few groups."""
        if not self.rows:
            nothing = {"difference": None, "standard_error": None, "largest": None, "logit_difference": None}
            return {"rows": 0, f"{first}_mean": None, f"{second}_mean": None, **nothing}
        means = {f"{first}_mean": self.first / self.rows, f"{second}_mean": self.second / self.rows}
        return {
            "rows": self.rows,
            **means,
            "difference": (self.second - self.first) / self.rows,
            "standard_error": self._standard_error(),
            "largest": self.largest,
            "logit_difference": {f"p{percent}": self._quantile(percent / 100) for percent in QUANTILES},
        }

    def _standard_error(self) -> float | None:
        """Of a ratio of means over groups: Σ (s - m n)², with m the mean difference."""
        if self.groups < 2:
            return None
        mean = (self.second - self.first) / self.rows
        variation = self.squares - 2 * mean * self.products + mean**2 * self.sizes
        return math.sqrt(max(0.0, variation) * self.groups / (self.groups - 1)) / self.rows

    def _quantile(self, level: float) -> float:
        """In the middle of the first bin up to which there is that share of the rows."""
        left = level * self.rows
        for number in sorted(map(int, self.bins)):
            left -= self.bins[str(number)]
            if left <= 0:
                break
        return math.copysign(SMALLEST * RATIO ** (abs(number) - 0.5), number) if number else 0.0


def _logits(p: Array) -> Floats:
    p = np.clip(p.astype(np.float64), _LEAST, 1 - 2.0**-53)
    return np.log(p) - np.log1p(-p)


def _bins_of(difference: Floats) -> Array:
    size: Floats = np.maximum(np.abs(difference), SMALLEST / RATIO)  # whose bin is 0
    number: Floats = np.ceil(np.log(size / SMALLEST) / math.log(RATIO)).clip(0)
    signed: Floats = np.copysign(number, difference)
    return signed.astype(np.int64)
