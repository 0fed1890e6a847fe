"""How far the values of a feature differ between train and another part, beyond what chance does."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from funnelcast.data_checks.reading import Codes
from funnelcast.data_checks.sample import Sample

LARGE = 0.25
"""Population stability index above which a population has changed, by custom, after what chance gives is taken off."""
SURE = 6.0
"""Standard errors."""
MOST_VALUES, LEAST_ROWS = 50, 50
"""Values that are compared one by one, and the rows of both parts that each must have; others are compared together."""
RUNS = 1.5
"""How many times fewer runs of equal values there are than in independent rows, from which on rows are taken to come in
runs; these have unequal lengths, which doubles what chance does."""


@dataclass(frozen=True)
class Drift:
    """Of K values and the rest of two parts."""

    shares: NDArray[np.float64]
    """(2, K + 1), the rest last."""
    index: float
    """Population stability index, without what chance gives."""
    is_sure: bool


def measure_drift(one: Codes, a: Sample, other: Codes, b: Sample, values: Codes) -> Drift | None:
    """Of codes (n,) of the rows of two samples, by `values` (K,) and the rest; none where there is nothing to compare.

    Neighbouring rows are alike where a user's rows stand together, or hours follow each other. So X² of the two parts
    is judged by that of the stretches within them (Rao and Scott's first-order correction), or by the number of runs.
    """
    one, other = (_places(codes, values) for codes in (one, other))
    tables = [_by_stretch(places, sample, len(values) + 1) for places, sample in ((one, a), (other, b))]
    counts = np.stack([table.sum(0) for table in tables])
    free, within = int(np.count_nonzero(counts.sum(0))) - 1, sum(len(table) - 1 for table in tables)
    if free < 1 or not within:
        return None
    unlike = max(1.0, sum(map(_chi_square, tables)) / (free * within), _by_runs(one, other))
    is_sure = _chi_square(counts) / free / unlike > _most_by_chance(free)
    chance = unlike * free * float((1 / counts.sum(1)).sum())
    return Drift(counts / counts.sum(1, keepdims=True), _stability(counts) - chance, is_sure)


def _places(codes: Codes, values: Codes) -> Codes:
    """(n,) the place of each code in `values` (K,), K for others."""
    place = np.searchsorted(values, codes)
    return np.where(np.append(values, -1)[place] == codes, place, len(values)) if len(values) else np.zeros_like(codes)


def _by_stretch(places: Codes, sample: Sample, count: int) -> NDArray[np.float64]:
    """(S, count) weights of rows by stretch and place."""
    cells = np.bincount(sample.stretch * count + places, sample.weight, sample.stretches * count)
    return np.asarray(cells, np.float64).reshape(-1, count)


def _by_runs(*parts: Codes) -> float:
    """How many times the variance of independent rows that of runs is; 1 where rows do not come in runs."""
    expected = runs = 0.0
    for places in parts:
        shares = np.bincount(places) / len(places)
        expected += 1 + (len(places) - 1) * (1 - float(shares @ shares))
        runs += 1 + np.count_nonzero(places[1:] != places[:-1])
    return 2 * expected / runs if expected >= RUNS * runs else 1.0


def _stability(counts: NDArray[np.float64]) -> float:
    """Population stability index of two rows of counts, half a row added to each."""
    smooth = counts[:, counts.sum(0) > 0] + 0.5
    one, other = smooth / smooth.sum(1, keepdims=True)
    return float((one - other) @ np.log(one / other))


def _chi_square(counts: NDArray[np.float64]) -> float:
    """Pearson's, of a table whose rows have one law if nothing but chance parts them."""
    rows, columns = counts.sum(1, keepdims=True), counts.sum(0)
    expected = rows * columns / columns.sum()
    return float(((counts - expected) ** 2 / np.where(expected > 0, expected, 1)).sum())


def _most_by_chance(free: int) -> float:
    """Chi-square over its degrees of freedom, `SURE` standard errors out (Wilson and Hilferty 1931)."""
    part = 2 / (9 * free)
    return float((1 - part + SURE * math.sqrt(part)) ** 3)


def frequent(one: Codes, other: Codes) -> Codes:
    """The codes that both parts together have most, ascending: chosen so, chance favours neither part."""
    values, counts = np.unique(np.concatenate([one, other]), return_counts=True)
    often = counts >= LEAST_ROWS
    values, counts = values[often], counts[often]
    return np.sort(values[np.argsort(-counts, kind="stable")[:MOST_VALUES]])
