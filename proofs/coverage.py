"""Coverage of every interval that compares models, 2,000 simulations each, and DeLong against all pairs.

Scores are normal in either class, so that every truth is known in closed form or by quadrature: each seed scales the
scores by a normal factor of its own and adds noise of its own to every row.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.special import ndtr

from funnelcast.evaluation.auc import Interval, auc, auc_difference, auc_interval
from funnelcast.evaluation.repeated_splits import repeated_splits, resampled_interval
from funnelcast.evaluation.seeds import over_seeds, rows_and_seeds
from harness.show import show

Floats = NDArray[np.float64]
Labels = NDArray[np.uint8]
Trial = Callable[[Generator], tuple[Interval, float]]
"""One simulation: the interval and its truth."""

SIMULATIONS = 2_000
ENOUGH, COVERAGE = 200, (0.935, 0.965)
"""From so many positives on coverage is within these."""
COVERAGE_OF_FEW = 0.92
"""Least coverage with 20 to 50 positives."""
NEGATIVES = 3
"""For each positive, and 200 at least."""
EXACT, SECONDS = 1e-10, 6.0
"""How far DeLong is from all pairs at most, and how long 10 M rows take."""
NODES, MASSES = np.polynomial.hermite_e.hermegauss(40)
MASSES = MASSES / MASSES.sum()
"""Quadrature over a standard normal variable."""


class Case(NamedTuple):
    """An interval in a setting."""

    interval: str
    setting: str
    positives: int
    trial: Trial
    has_target: bool = True
    """Whether a bar holds for it."""

    @property
    def bar(self) -> tuple[float, float]:
        """Least and most coverage."""
        if not self.has_target:
            return 0.0, 1.0
        return COVERAGE if self.positives >= ENOUGH else (COVERAGE_OF_FEW, 1.0)


class Process(NamedTuple):
    """Scores of two models, of AUCs 0.76 and 0.80 before their seeds blur them."""

    shared: float
    """Correlation of the models' scores within a class, before their seeds."""
    noise: tuple[float, float]
    """Of either model, the deviation of what a seed adds to each row, beside 1 of the rows."""
    sharpness: tuple[float, float]
    """Of either model, the deviation of a seed's factor around 1."""

    def rows(self, rng: Generator, positives: int) -> tuple[Labels, Floats]:
        """Labels (N,) and what either model's scores (2, N) are before its seeds."""
        labels = labels_of(positives)
        common, own = rng.normal(size=len(labels)), rng.normal(size=(2, len(labels)))
        return labels, self.shared**0.5 * common + (1 - self.shared) ** 0.5 * own + np.outer(SHIFTS, labels)

    def seeds(self, rng: Generator, seeds: int, rows: Floats) -> Iterator[Floats]:
        """(seeds, N) scores of either model."""
        for row, noise, sharpness in zip(rows, self.noise, self.sharpness, strict=True):
            yield rng.normal(1, sharpness, (seeds, 1)) * row + rng.normal(0, noise, (seeds, len(row)))

    @property
    def difference(self) -> float:
        """Of the expected AUCs over rows and seeds."""
        expected = []
        for shift, noise, sharpness in zip(SHIFTS, self.noise, self.sharpness, strict=True):
            factor = 1 + sharpness * NODES
            expected.append(float(MASSES @ ndtr(shift * factor / np.sqrt(2 * (factor**2 + noise**2)))))
        return expected[0] - expected[1]

    def difference_on(self, labels: Labels, rows: Floats) -> float:
        """Of the expected AUCs over seeds, on these rows."""
        expected = []
        for row, noise, sharpness in zip(rows, self.noise, self.sharpness, strict=True):
            gaps = row[labels == 1][:, None] - row[labels == 0][None, :]
            factors = (1 + sharpness * NODES) / (noise * math.sqrt(2))
            expected.append(sum(mass * float(ndtr(f * gaps).mean()) for f, mass in zip(factors, MASSES, strict=True)))
        return expected[0] - expected[1]


SHIFTS = (1.0, 1.2)
SEEDS_MOST = "seeds matter most"
PROCESSES = {
    "rows matter most": Process(shared=0.8, noise=(0.4, 0.4), sharpness=(0.03, 0.03)),
    "rows and seeds alike": Process(shared=0.85, noise=(0.5, 0.5), sharpness=(0.08, 0.08)),
    SEEDS_MOST: Process(shared=0.95, noise=(0.6, 0.6), sharpness=(0.15, 0.15)),
    "of one model alone": Process(shared=0.95, noise=(1.0, 0.0), sharpness=(0.1, 0.0)),
    "rows × seeds": Process(shared=1.0, noise=(0.6, 0.6), sharpness=(0.0, 0.0)),
}
"""The last: what seeds add is another order of the rows, whose own share in the difference is nil."""


def coverage(small: bool = False) -> bool:
    """Coverage of all intervals, 2,000 simulations each: 93.5 to 96.5 % (20 to 50 positives: >= 92 %); DeLong exact."""
    simulations = 40 if small else SIMULATIONS
    found = []
    for number, case in enumerate(cases()):
        ends = [_outcome(case.trial, np.random.default_rng([number, each])) for each in range(simulations)]
        below, above = (float(np.mean([end == side for end in ends])) for side in (-1, 1))
        found.append((case, 1 - below - above, below, above))
    head = ("interval", "setting", "positives", "coverage", "truth below", "above", "bar")
    show(head, [_row(*each) for each in found])
    error = delong_error(4 if small else 40)
    show(("DeLong, largest difference from all pairs", "bar"), [(f"{error:.1e}", f"{EXACT:.0e}")])
    rows = 200_000 if small else 10_000_000
    took = [(name, f"{rows:,}", *seconds) for name, seconds in delong_seconds(rows).items()]
    show(("DeLong (times of a busy machine do not count)", "rows", "s", "CPU s", "bar, of 10 M"), took)
    slack = 4 * math.sqrt(0.05 * 0.95 / simulations) if small else 0.0
    return error < EXACT and all(case.bar[0] - slack <= covered <= case.bar[1] + slack for case, covered, _, _ in found)


def cases() -> Iterator[Case]:
    """Every interval, with few positives and with enough."""
    for positives, shift in product((20, 30, 50, 200, 1000), (1.0, 2.33)):
        setting = f"AUC {ndtr(shift / 2**0.5):.2f}"
        yield Case("auc_interval", setting, positives, partial(one_auc, positives, shift))
    for positives, (setting, (shifts, shared)) in product((20, 30, 50, 200, 1000), PAIRS.items()):
        yield Case("auc_difference", setting, positives, partial(two_aucs, positives, shifts, shared))
    for positives, seeds in product((30, 200), (3, 5, 10)):
        yield Case("over_seeds", f"{seeds} seeds", positives, partial(on_these_rows, positives, seeds))
    for positives, (seeds, name) in product((30, 200), [*product((3, 5), PROCESSES), (10, SEEDS_MOST)]):
        trial = partial(on_any_rows, PROCESSES[name], positives, seeds)
        yield Case("rows_and_seeds", f"{seeds} seeds, {name}", positives, trial)
    for positives, share in product((30, 200), (0.1, 0.3)):
        trial = partial(on_splits, positives, share)
        yield Case("resampled_interval", f"{SPLITS} splits, {share:.0%} tested", positives, trial, has_target=False)


PAIRS = {
    "AUC .76 and .80, correlation .9": ((1.0, 1.2), 0.9),
    "AUC .95 and .95, correlation .5": ((2.33, 2.33), 0.5),
}


def one_auc(positives: int, shift: float, rng: Generator) -> tuple[Interval, float]:
    """Of normal scores."""
    labels = labels_of(positives)
    return auc_interval(labels, rng.normal(size=len(labels)) + shift * labels), float(ndtr(shift / 2**0.5))


def two_aucs(positives: int, shifts: tuple[float, float], shared: float, rng: Generator) -> tuple[Interval, float]:
    """Of bivariate normal scores."""
    labels = labels_of(positives)
    common = rng.normal(size=len(labels))
    a, b = (
        shared**0.5 * common + (1 - shared) ** 0.5 * rng.normal(size=len(labels)) + shift * labels for shift in shifts
    )
    truth = ndtr(shifts[0] / 2**0.5) - ndtr(shifts[1] / 2**0.5)
    return auc_difference(labels, a, b), float(truth)


def on_these_rows(positives: int, seeds: int, rng: Generator) -> tuple[Interval, float]:
    """New seeds on one test set."""
    labels, rows, truth = _test_set(positives)
    aucs = np.array([[auc(labels, row) for row in model] for model in OVER.seeds(rng, seeds, rows)])
    return over_seeds(aucs[0], aucs[1]), truth


OVER = PROCESSES[SEEDS_MOST]


@cache
def _test_set(positives: int) -> tuple[Labels, Floats, float]:
    labels, rows = OVER.rows(np.random.default_rng(positives), positives)
    return labels, rows, OVER.difference_on(labels, rows)


def on_any_rows(process: Process, positives: int, seeds: int, rng: Generator) -> tuple[Interval, float]:
    """New seeds and a new test set; 500 replicates, a quarter of what is usual."""
    labels, rows = process.rows(rng, positives)
    a, b = process.seeds(rng, seeds, rows)
    return rows_and_seeds(labels, a, b, replicates=500), process.difference


FIELDS = 8
PULL = np.array([0.8, 0.6, 0.4, 0.2, 0.0, 0.0, 0.0, 0.0])
"""How far the fields' means are apart between the classes."""
SPLITS = 10
RIVALS = (slice(None), slice(0, 3))
"""Fields of two linear discriminants: all, and the first three."""


def on_splits(positives: int, test_share: float, rng: Generator) -> tuple[Interval, float]:
    """Linear discriminants of all and of some fields, trained on repeated splits of new rows."""
    labels = labels_of(positives)
    x = rng.normal(size=(len(labels), FIELDS)) + np.outer(labels, PULL)
    differences = []
    for train, test in repeated_splits(len(labels), SPLITS, test_share, int(rng.integers(2**31)), labels[:, None]):
        a, b = (auc(labels[test], x[test, fields] @ discriminant(x[train, fields], labels[train])) for fields in RIVALS)
        differences.append(a - b)
    return resampled_interval(np.array(differences), test_share), _trained_difference(positives, test_share)


def discriminant(x: Floats, labels: Labels) -> Floats:
    """Fisher's direction."""
    up, down = x[labels == 1], x[labels == 0]
    pooled = np.cov(up.T) * (len(up) - 1) + np.cov(down.T) * (len(down) - 1)
    return np.asarray(np.linalg.solve(pooled, up.mean(0) - down.mean(0)), np.float64)


@cache
def _trained_difference(positives: int, test_share: float) -> float:
    """Of expected AUCs, over 4,000 training sets of the size that the splits have, of their true AUCs."""
    rng = np.random.default_rng([positives, 1])
    labels = labels_of(positives)
    train = repeated_splits(len(labels), 1, test_share, labels=labels[:, None])[0].train
    labels, found = labels[train], []
    for _ in range(4_000):
        x = rng.normal(size=(len(labels), FIELDS)) + np.outer(labels, PULL)
        w = [discriminant(x[:, fields], labels) for fields in RIVALS]
        a, b = (ndtr(v @ PULL[f] / np.linalg.norm(v) / 2**0.5) for v, f in zip(w, RIVALS, strict=True))
        found.append(a - b)
    return float(np.mean(found))


def delong_error(tables: int) -> float:
    """Largest difference of AUCs, variances and covariances from those of all pairs, with and without ties."""
    largest = 0.0
    for number in range(tables):
        rng = np.random.default_rng([7, number])
        labels = rng.permutation(labels_of(int(rng.integers(50, 300))))
        a, b = (rng.normal(size=(2, len(labels))) + rng.normal(size=len(labels)) + labels).round(number % 4 + 1)
        aucs, covariance = all_pairs(labels, a, b)
        pair, first = auc_difference(labels, a, b), auc_interval(labels, a)
        variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
        fast = pair.estimate, pair.std_error, first.estimate, first.std_error
        slow = aucs[0] - aucs[1], math.sqrt(variance), aucs[0], math.sqrt(covariance[0, 0])
        largest = max(largest, *np.abs(np.subtract(fast, slow)))
    return float(largest)


def all_pairs(labels: Labels, *scores: Floats) -> tuple[list[float], Floats]:
    """DeLong et al. (1988) in O(n²): AUCs, and their covariance from the matrices of all pairs."""
    kernels = [
        (s[labels == 1][:, None] > s[labels == 0]) + 0.5 * (s[labels == 1][:, None] == s[labels == 0]) for s in scores
    ]
    up, down = (np.array([kernel.mean(axis) for kernel in kernels]) for axis in (1, 0))
    return [float(kernel.mean()) for kernel in kernels], np.cov(up) / up.shape[1] + np.cov(down) / down.shape[1]


def delong_seconds(rows: int) -> dict[str, tuple[str, str, str]]:
    """Seconds, CPU seconds and the bar, for one AUC and for a pair, 4 % positives, float32."""
    rng = np.random.default_rng(0)
    labels = (rng.random(rows) < 0.04).astype(np.uint8)
    a = rng.normal(size=rows).astype(np.float32) + labels
    b = a + 0.3 * rng.normal(size=rows).astype(np.float32)
    found = {}
    calls: dict[str, Callable[[], Any]] = {
        "auc_interval": lambda: auc_interval(labels, a),
        "auc_difference": lambda: auc_difference(labels, a, b),
    }
    for name, call in calls.items():
        started, worked = time.perf_counter(), time.process_time()
        call()
        spent = time.perf_counter() - started, time.process_time() - worked
        found[name] = (f"{spent[0]:.1f}", f"{spent[1]:.1f}", f"{SECONDS:.0f}")
    return found


def labels_of(positives: int) -> Labels:
    """(N,) positives first."""
    return np.repeat([1, 0], [positives, max(200, NEGATIVES * positives)]).astype(np.uint8)


def _outcome(trial: Trial, rng: Generator) -> int:
    """0 where the truth is in the interval, else the side it is on; 1 without an interval."""
    interval, truth = trial(rng)
    return 0 if interval.low <= truth <= interval.high else -1 if truth < interval.low else 1


def _row(case: Case, covered: float, below: float, above: float) -> tuple[str, ...]:
    least, most = case.bar
    bar = "none" if not case.has_target else f">= {least:.1%}" if most == 1 else f"{least:.1%} to {most:.1%}"
    return case.interval, case.setting, f"{case.positives:,}", f"{covered:.2%}", f"{below:.2%}", f"{above:.2%}", bar
