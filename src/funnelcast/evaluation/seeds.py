"""Two models trained with several seeds each: their difference over seeds, and over rows and seeds together."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from funnelcast.errors import ComparisonError
from funnelcast.evaluation.auc import TOO_FEW, Interval, placements
from funnelcast.evaluation.rows import Array, Floats, check_rows
from funnelcast.evaluation.standard_errors import quantile, welch

BLOCKS = 2_000
"""Most units of a class that are resampled; more rows are put into as many random blocks. The standard error of so many
units is known to 1 / √(2 · 2,000) = 1.6 %, and 2,000 replicates add as much."""


class Part(NamedTuple):
    """An independent source of error: its share of the estimate's deviation is the mean of resampled deviations."""

    deviations: Floats
    """(K,) of the units from their mean."""
    freedom: float
    """Degrees of freedom of the variance."""

    @property
    def variance(self) -> float:
        """Of the mean of K deviations drawn with replacement."""
        return float(self.deviations @ self.deviations) / len(self.deviations) ** 2

    def draw(self, rng: Generator, replicates: int) -> Floats:
        """(replicates,) means of K deviations drawn with replacement."""
        chosen = rng.integers(len(self.deviations), size=(replicates, len(self.deviations)))
        return np.asarray(self.deviations[chosen].mean(1), np.float64)


class Units(NamedTuple):
    """The rows of one class, grouped as they are resampled."""

    weights: Floats
    """(rows,)"""
    blocks: NDArray[np.intp]
    """(rows,) the unit of each row, in [0, K)."""
    size: float
    """Kish's effective number of units."""

    @classmethod
    def of(cls, weights: Floats, rng: Generator) -> Units:
        """Each row its own unit or, of more than `BLOCKS` rows, random blocks that differ by one row at most."""
        rows = len(weights)
        blocks = np.arange(rows) if rows <= BLOCKS else rng.permutation(rows) % BLOCKS
        masses = np.bincount(blocks, weights)
        return cls(weights, blocks, float(masses.sum() ** 2 / (masses @ masses)))

    def deviations(self, values: Floats) -> Floats:
        """(K,) whose mean over resampled units is how far the weighted mean of values (rows,) comes out."""
        sums = np.bincount(self.blocks, self.weights * (values - np.average(values, weights=self.weights)))
        return np.asarray(len(sums) * sums / self.weights.sum(), np.float64)


class Measured(NamedTuple):
    """A model's AUC (S,) by seed, and the deviations (S, K) of the structural components of either class."""

    aucs: Floats
    positives: Floats
    negatives: Floats
    note: str = ""
    """Why there are none."""


def over_seeds(a: Floats, b: Floats, level: float = 0.95) -> Interval:
    """Mean of a - b over seeds with the paired t interval, S - 1 degrees of freedom.

    a, b (S,) are figures of one metric of two models on one test set, seed s of either at place s; level in (0, 1). The
    truth is the expected difference on this test set over seeds; what other rows would say is not in the interval.

    Runs of two models share the number of a seed and little else (perhaps the order of rows, or the split), so pairing
    removes little noise, often none. It costs degrees of freedom, as Welch's t of independent runs has up to 2 (S - 1):
    with 5 seeds a fifth of the width. But it holds whatever the variances are and whatever the runs do share, and is
    exact for normal figures, where Welch's is approximate, and wrong if they share something. Figures are far from
    normal where some runs fail, and few seeds then hold the truth less often than they say.

    A pair with a NaN is left out, which `note` tells; no interval with under 2 pairs. Raises ComparisonError if a and b
    are not (S,) alike.
    """
    if a.ndim != 1 or a.shape != b.shape:
        raise ComparisonError(
            f"figures of shapes {a.shape} and {b.shape} are no pairs of seeds; give one figure per seed of either "
            "model, of as many seeds"
        )
    differences = np.subtract(a, b, dtype=np.float64)
    known = differences[~np.isnan(differences)]
    notes = [f"{len(a) - len(known)} of {len(a)} seeds undefined"] if len(known) < len(a) else []
    mean = float(known.mean()) if len(known) else math.nan
    if len(known) < 2:
        notes.append("under 2 seeds: no interval")
        return Interval(mean, math.nan, math.nan, math.nan, ", ".join(notes))
    error = float(known.std(ddof=1)) / math.sqrt(len(known))
    half = quantile(level, len(known) - 1) * error
    if error < 1e-15:
        notes.append("no spread: all seeds differ alike")
    return Interval(mean, mean - half, mean + half, error, ", ".join(notes))


def rows_and_seeds(
    labels: Array,
    scores_a: Array,
    scores_b: Array,
    weights: Array | None = None,
    level: float = 0.95,
    seed: int = 0,
    replicates: int = 2_000,
) -> Interval:
    """Mean AUC over a's seeds minus that over b's, with a bootstrap over rows and seeds.

    labels (N,) in {0, 1}; scores (S_a, N) and (S_b, N), a row per seed, seeds of a independent of those of b; weights
    (N,) >= 0; level in (0, 1); seed of the bootstrap. The truth is the difference of expected AUCs over the population
    of rows (so many positives and negatives) and over seeds.

    A replicate is the estimate plus the mean deviation of resampled seeds of a, less that of b, plus those of resampled
    positives and negatives, by their structural components (DeLong et al. 1988): linear in rows, so that many rows can
    be resampled as `BLOCKS` random blocks. `seeds_part` and `rows_part` scale the deviations so that the variance of
    replicates is unbiased. The interval is estimate ± t · (their standard deviation), with the degrees of freedom of
    `freedom_of`, as percentiles of few seeds have none of Student's tails; within [-1, 1].

    A model with one seed has no part for its seeds, which `note` tells. No interval with under 10 effective rows of a
    class; all NaN where an AUC is undefined. Raises ComparisonError for scores of other shapes, ValueError as `auc`.
    """
    rows = Resampling(labels, weights, seed)
    return rows.difference(rows.measure(scores_a), rows.measure(scores_b), level, replicates)


class Resampling:
    """`rows_and_seeds` of many models: each is measured once, and any two are compared at little cost."""

    def __init__(self, labels: Array, weights: Array | None = None, seed: int = 0) -> None:
        """Arguments and errors as for `rows_and_seeds`."""
        self._y, self._w = check_rows(labels, weights=weights)
        self._rng = np.random.default_rng(seed)
        self._units: dict[str, Units] = {}
        if all(np.any(self._w[rows]) for rows in (self._y, ~self._y)):
            named = {"positives": self._y, "negatives": ~self._y}
            self._units = {name: Units.of(self._w[rows], self._rng) for name, rows in named.items()}

    def measure(self, scores: Array) -> Measured:
        """Of a model's scores (S, N), one sort per seed. Raises ComparisonError for other shapes."""
        if scores.ndim != 2 or not len(scores) or scores.shape[1:] != self._y.shape:
            raise ComparisonError(
                f"scores are {scores.shape} for labels {self._y.shape}; give a row of scores per seed, of the same "
                "rows in the same order as the labels"
            )
        nothing = np.full(len(scores), math.nan)
        if not self._units:
            return Measured(nothing, nothing, nothing, "undefined: one class only" if len(self._y) else "no rows")
        if np.isnan(scores).any():
            return Measured(nothing, nothing, nothing, "undefined: a score is NaN")
        aucs, above, below = [], [], []
        for row in scores:
            outscored, outscoring = placements(self._y, row, self._w)
            aucs.append(float(np.average(outscored, weights=self._w[self._y])))
            above.append(self._units["positives"].deviations(outscored))
            below.append(self._units["negatives"].deviations(outscoring))
        return Measured(np.array(aucs), np.array(above), np.array(below))

    def difference(self, a: Measured, b: Measured, level: float = 0.95, replicates: int = 2_000) -> Interval:
        """As `rows_and_seeds`, which has the formulas; the same draws for any pair."""
        if note := a.note or b.note:
            return Interval(math.nan, math.nan, math.nan, math.nan, note)
        estimate = float(a.aucs.mean() - b.aucs.mean())
        for name, units in self._units.items():
            if units.size < TOO_FEW - 1e-6:
                return Interval(estimate, math.nan, math.nan, math.nan, f"too few {name}")
        of_seeds = [seeds_part(model.aucs) for model in (a, b) if len(model.aucs) > 1]
        of_rows = [
            rows_part(a.positives, b.positives, self._units["positives"].size),
            rows_part(a.negatives, b.negatives, self._units["negatives"].size),
        ]
        rng = copy.deepcopy(self._rng)
        error = float(np.sqrt(np.mean(sum(part.draw(rng, replicates) for part in of_seeds + of_rows) ** 2)))
        half = quantile(level, freedom_of(of_seeds, of_rows)) * error
        single = " and ".join(name for name, model in (("a", a), ("b", b)) if len(model.aucs) == 1)
        notes = [f"one seed of {single}: what seeds add is not in the interval"] if single else []
        if error < 1e-15:
            notes.append("no spread: all rows differ alike")
        return Interval(estimate, max(-1.0, estimate - half), min(1.0, estimate + half), error, ", ".join(notes))


def seeds_part(aucs: Floats) -> Part:
    """What the choice of S >= 2 seeds adds, of their AUCs (S,) on one test set.

    The mean of S resampled values has the variance Σ (A_s - A)² / S², short by (S - 1) / S of the unbiased one, so the
    deviations are scaled by √(S / (S - 1)).
    """
    seeds = len(aucs)
    return Part((aucs - aucs.mean()) * math.sqrt(seeds / (seeds - 1)), seeds - 1)


def rows_part(a: Floats, b: Floats, size: float) -> Part:
    """What the choice of one class's rows adds beside the seeds, of deviations (S_a, K) and (S_b, K).

    Rows and seeds are crossed: component s, k of a model = mean + seed s + row k + interaction s, k. Averaged over
    seeds, the variance over rows is that of the row effects and of interaction / S; but the variance of the AUCs over
    seeds, on these same rows, has interaction / S too. What is in both is taken off here (resampling rows and seeds at
    once would count it up to three times: Owen 2007): with V the variance of the averaged components and I of the
    interactions / S, estimated by the residuals of the two-way table, deviations are scaled by √(1 - I / V), and by
    √(K / (K - 1)) as in `seeds_part`. V having K - 1 degrees of freedom, V - I has (K - 1) (1 - I / V)².
    """
    average = a.mean(0) - b.mean(0)
    total = float(average @ average)
    interactions = sum(float(model.var(0, ddof=1).sum()) / len(model) for model in (a, b) if len(model) > 1)
    kept = max(0.0, 1 - interactions / total) if total > 0 else 0.0
    return Part(average * math.sqrt(kept * size / (size - 1)), (size - 1) * kept**2)


def freedom_of(seeds: Sequence[Part], rows: Sequence[Part]) -> float:
    """Degrees of freedom of the sum of the parts' variances, Welch's with two corrections for few seeds.

    Welch's Σ (v² / f) is too large on the average, by which two models of 3 seeds are covered too often: the seeds'
    parts count by Σ (v² / (f + 1)), between that and the unbiased f + 2, less 1. And where few seeds happen to be close
    together, they seem to be a small part of the sum, whose freedom comes out high just where it is too small: here the
    seeds' sum of f degrees counts 1 + 3 / f times. Chosen by simulation of normal seeds: for 3 seeds or more, of both
    models or of one alone, and any part of the rows, 95 % intervals hold 94.4 to 95.8 % (Welch's: 92.2 to 96.5 %); with
    2 seeds 92 to 96.5 % (87 to 97.7 %).
    """
    seen, known = [part.variance for part in seeds], [part.variance for part in rows]
    freedoms = [part.freedom for part in rows]
    if sum(seen) > 0:
        freedom = welch(seen, [part.freedom + 1 for part in seeds]) - 1
        known.append((1 + 3 / freedom) * sum(seen))
        freedoms.append(freedom)
    return welch(known, freedoms)
