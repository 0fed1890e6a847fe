"""Target statistics: how often rows of a category reach each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

WEAKEST: Final = 1e-3
STRONGEST: Final = 1e6
"""Limits of a prior's strength, in rows."""
SMALLEST: Final = 1e-9
"""Least prior rate, and least complement of one."""
FARTHEST: Final = 6.0
"""Limit of a scaled statistic, in standard deviations."""


class Target(NamedTuple):
    """A rate: of the rows that reached `step` among all rows, or among those that reached the step `given`."""

    step: int
    given: int = -1


def targets_of(parents: tuple[int, ...]) -> tuple[Target, ...]:
    """Of every step over all rows, and given its parent where it has one."""
    own = [(Target(t), Target(t, parent)) if parent >= 0 else (Target(t),) for t, parent in enumerate(parents)]
    return tuple(target for targets in own for target in targets)


@dataclass(frozen=True)
class Tally:
    """Sums over rows by category, in K tables: one per fold of the rows, or one of all.

    Shape letters: V categories, S targets.
    """

    observed: NDArray[np.float64]
    """(K, V, S) weight of the rows that each target is over."""
    reached: NDArray[np.float64]
    """(K, V, S) weight of those of them that reached the target's step."""
    rows: NDArray[np.float64]
    """(K, V) rows, or elements of lists; 0 of category 0."""

    def whole(self) -> Tally:
        """Of all folds, in one table."""
        return self._each(lambda sums: sums.sum(0, keepdims=True))

    def of_other_folds(self) -> Tally:
        """For each fold what the others hold. Added up: total minus own would keep the own labels in its rounding.

        `rows` are scaled up to those of all folds, as counts of fewer rows would be a shift between training and
        predicting.
        """
        other = self._each(lambda sums: np.stack([np.delete(sums, fold, 0).sum(0) for fold in range(len(sums))]))
        folds = len(self.rows)
        return replace(other, rows=other.rows * folds / max(folds - 1, 1))

    def of_earlier_folds(self) -> Tally:
        """For each fold what those before it hold; nothing for the first one."""
        return self._each(lambda sums: np.concatenate([np.zeros_like(sums[:1]), sums[:-1].cumsum(0)]))

    def placed(self, indices: NDArray[np.int64], size: int) -> Tally:
        """Among `size` categories, category i at `indices[i]`; the others have nothing."""

        def place(sums: NDArray[np.float64]) -> NDArray[np.float64]:
            placed = np.zeros((len(sums), size, *sums.shape[2:]))
            placed[:, indices] = sums
            return placed

        return self._each(place)

    def unless(self, taken: NDArray[np.bool_], other: Tally) -> Tally:
        """With those of `other` in the place of categories that are `taken` (V,)."""
        pairs = [(getattr(self, name), getattr(other, name)) for name in _SUMS]
        return Tally(*(np.where(taken.reshape(1, -1, *[1] * (own.ndim - 2)), new, own) for own, new in pairs))

    def at_rates(self, before: Tally, after: Tally) -> Tally:
        """Reached and other rows weighted so that the rates of all rows, of `before`, would be those of `after`; by how
        much the log odds of a category exceed theirs does not change, nor do the counts of rows."""
        old, new = prior_rate(before), prior_rate(after)
        reached, others = self.reached * (new / old), (self.observed - self.reached) * ((1 - new) / (1 - old))
        return Tally(reached + others, reached, self.rows)

    def _each(self, change: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Tally:
        return Tally(change(self.observed), change(self.reached), change(self.rows))


def prior_strength(own: Tally, target: int) -> float:
    """Rows at the rate of all that a category starts with: (1 − ρ) / ρ, with ρ the intraclass correlation of the
    target's labels within categories, estimated by analysis of variance (Fleiss, Levin and Paik 2003, section 15.2).

    `own`: one table. Between 1e-3 and 1e6, the latter where categories differ by no more than chance.
    """
    n, reached = own.observed[0, 1:, target], own.reached[0, 1:, target]
    n, reached = n[n > 0], reached[n > 0]
    total, groups = n.sum(), len(n)
    if groups < 2 or total <= groups:
        return STRONGEST
    rate, rates = reached.sum() / total, reached / n
    between = (n * (rates - rate) ** 2).sum() / (groups - 1)
    within = (n * rates * (1 - rates)).sum() / (total - groups)
    size = (total - (n**2).sum() / total) / (groups - 1)
    variance = between + (size - 1) * within
    correlation = (between - within) / variance if between > within and variance > 0 else 0.0
    return float(np.clip((1 - correlation) / max(correlation, 1 / STRONGEST), WEAKEST, STRONGEST))


def prior_rate(everyone: Tally) -> NDArray[np.float64]:
    """(K, 1, S) rate of all rows; 1/2 where there are none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        prior = np.where(everyone.observed > 0, everyone.reached / everyone.observed, 0.5)
    return np.asarray(prior.clip(SMALLEST, 1 - SMALLEST))


def log_odds(own: Tally, everyone: Tally, strengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K, V, S) log odds of each category's rate, smoothed by `strengths` (S,) rows at the rate of all, minus that
    rate's: 0 where nothing is known.

    `everyone`: tables of one category, of all rows.
    """
    prior = prior_rate(everyone)
    yes, no = own.reached + strengths * prior, own.observed - own.reached + strengths * (1 - prior)
    odds: NDArray[np.float64] = np.log(yes / no) - np.log(prior / (1 - prior))
    odds[:, 0] = 0
    return odds


@dataclass(frozen=True)
class TargetStatistics:
    """What a network reads of the categories of a row, fitted on training rows. Names are those of features; of a pair,
    `first × second`."""

    edges: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """(E,) by number: bin edges, ascending, in scaled numbers."""
    pairs: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    """(P,) by pair: as `Pairs.known`."""
    tallies: dict[str, Tally] = field(default_factory=dict)
    """Of all training rows, one table each."""
    everyone: Tally | None = None
    """The same with one category, of all rows; none before anything is fitted."""
    strengths: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """(S,): rows at the rate of all that every category starts with."""
    scales: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """(2, S + 1): mean, of counts alone, and standard deviation of each number over the training rows."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Itself: replicas of a network share it, as nothing changes it."""
        return self

    def numbers(self, name: str, own: Tally, everyone: Tally) -> NDArray[np.float32]:
        """(K, V, S + 1) of each category: log odds of each target's rate minus those of all rows, log(1 + rows), over
        their standard deviations."""
        center, deviation = self.scales[name]
        found = (_unscaled(own, everyone, self.strengths[name]) - center) / deviation
        return np.asarray(found.clip(-FARTHEST, FARTHEST), np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything by name."""
        found: dict[str, NDArray[Any]] = {}
        for kind in ("edges", "pairs", "strengths", "scales"):
            found |= {f"{kind}.{name}": values for name, values in getattr(self, kind).items()}
        tallies = self.tallies if self.everyone is None else {**self.tallies, "": self.everyone}
        for name, tally in tallies.items():
            found |= {f"{kind}.{name}": getattr(tally, kind) for kind in _SUMS}
        return found

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        safetensors.numpy.save_file(self.arrays(), path)

    @classmethod
    def load(cls, path: Path) -> TargetStatistics:
        """What `save` wrote."""
        parts: dict[str, dict[str, NDArray[Any]]] = {}
        for name, values in safetensors.numpy.load_file(path).items():
            kind, _, own = name.partition(".")
            parts.setdefault(kind, {})[own] = values
        sums = [parts.pop(kind, {}) for kind in _SUMS]
        tallies = {name: Tally(*(each[name] for each in sums)) for name in sums[0]}
        return cls(tallies=tallies, everyone=tallies.pop("", None), **parts)


_SUMS: Final = ("observed", "reached", "rows")


def scale_of(own: Tally, everyone: Tally, strengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """`TargetStatistics.scales` of a category's whole tally; the deviation of a constant is 1."""
    numbers, weights = _unscaled(own, everyone, strengths)[0], own.rows[0]
    if not weights.any():
        return np.stack([np.zeros(numbers.shape[1]), np.ones(numbers.shape[1])])
    center = np.average(numbers, 0, weights)
    deviation = np.sqrt(np.average((numbers - center) ** 2, 0, weights))
    center[:-1] = 0  # 0 stays "as all rows"
    return np.stack([center, np.where(deviation > 1e-6, deviation, 1.0)])


def _unscaled(own: Tally, everyone: Tally, strengths: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([log_odds(own, everyone, strengths), np.log1p(own.rows)[..., None]], 2)
