"""Drift of features between train and another part: of single values, and of bins of numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.encoder import Encoder
from funnelcast.data.numeric import Bins, Standard
from funnelcast.data_checks.column import Codes, Column, Numbers, bins, edges
from funnelcast.data_checks.finding import DRIFT, Finding
from funnelcast.data_checks.formatting import percent, raw_value
from funnelcast.data_checks.sample import Sample

BINS = 20


class _Compared(NamedTuple):
    """One side of a feature, in codes that both parts share."""

    train: Codes
    other: Codes
    values: Codes
    """(K,) that are compared one by one."""
    name: Callable[[int], str]
    """What a code stands for."""
    middles: tuple[float, float] | None = None
    """The medians, of numbers."""


def feature_drift(train: Column, other: Column, encoder: Encoder) -> Finding | None:
    """Of the values of a feature; of lists, of their lengths and their last ids."""
    for each in _compared(train, other, encoder):
        found = measure_drift(each.train, train.sample, each.other, other.sample, each.values)
        if found is not None and found.is_significant and found.index >= LARGE:
            return _finding(train.name, other.sample.part, found, each)
    return None


def _compared(train: Column, other: Column, encoder: Encoder) -> Iterator[_Compared]:
    if train.lists is not None and other.lists is not None:
        yield _ids(_last(train), _last(other), encoder, train.name, "a last id of ")
        yield _numbers(train, other, encoder)
    elif train.numbers is not None and not isinstance(encoder.numbers[train.name], Bins):
        yield _numbers(train, other, encoder)
    else:
        yield _ids(train.raw.astype(np.int64), other.raw.astype(np.int64), encoder, train.name)


def _ids(train: Codes, other: Codes, encoder: Encoder, feature: str, what: str = "") -> _Compared:
    """Unknown ids stand with the rare ones: parts of one distribution differ in them."""
    values = frequent(train, other)
    if not isinstance(encoder.numbers.get(feature), Bins):
        values = values[values > 0]
    return _Compared(train, other, values, lambda code: what + raw_value(encoder, feature, code))


def _last(column: Column) -> Codes:
    """(n,) the last id of each list, -1 of none."""
    assert column.lists is not None
    has, ids = column.lists.offsets[1:] > column.lists.offsets[:-1], np.append(column.lists.ids, -1)
    return np.where(has, ids[column.lists.offsets[1:] - 1], -1).astype(np.int64)


def _numbers(train: Column, other: Column, encoder: Encoder) -> _Compared:
    assert train.numbers is not None and other.numbers is not None
    both = np.concatenate([train.numbers, other.numbers])
    parting = edges(both, min(BINS, max(2, len(both) // (2 * LEAST_ROWS))))
    codes = bins(train.numbers, parting), bins(other.numbers, parting)
    scale = encoder.numbers.get(train.name)
    std, mean = (scale.std, scale.mean) if isinstance(scale, Standard) else (1.0, 0.0)
    middles = (float(np.median(each.numbers)) * std + mean for each in (train, other) if each.numbers is not None)
    what = "a length of " if train.lists is not None else ""
    named = partial(_range, parting * std + mean)
    return _Compared(*codes, frequent(*codes), lambda code: what + named(code), (next(middles), next(middles)))


def _range(edges: Numbers, code: int) -> str:
    """What a code of `bins` stands for."""
    place = code // 2
    if code % 2:
        return f"{edges[place]:.6g}"
    if place == 0:
        return f"below {edges[0]:.6g}"
    return f"above {edges[-1]:.6g}" if place == len(edges) else f"{edges[place - 1]:.6g} to {edges[place]:.6g}"


def _finding(feature: str, part: str, found: Drift, compared: _Compared) -> Finding:
    return Finding(
        DRIFT,
        feature,
        "warning",
        f"its values have another distribution in {part} (population stability index {found.index:.2f}, where over "
        f"{LARGE} is large): {_difference(part, found, compared)}",
        "look whether the column was made alike for both; if the world changed, train on newer rows, and trust figures "
        "of the newest alone",
    )


def _difference(part: str, found: Drift, compared: _Compared) -> str:
    if compared.middles is not None and compared.middles[0] != compared.middles[1]:
        return "the median is {:.6g} in train and {:.6g} in ".format(*compared.middles) + part
    moves = np.abs(found.shares[0] - found.shares[1])
    moved = int(np.argmax(moves[:-1] if len(compared.values) else moves))
    name = compared.name(int(compared.values[moved])) if len(compared.values) else "a rare or unknown value"
    before, after = (percent(float(share)) for share in found.shares[:, moved])
    return f"{name or 'no value'} in {before} of the training rows and in {after} of the {part} rows"


LARGE = 0.25
"""Population stability index above which a population has changed, by custom, after what chance gives is taken off."""
STANDARD_ERRORS = 6.0
"""A difference of more standard errors than these is a finding."""
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
    is_significant: bool


def measure_drift(one: Codes, a: Sample, other: Codes, b: Sample, values: Codes) -> Drift | None:
    """Of codes (n,) of the rows of two samples, by `values` (K,) and the rest; none where there is nothing to compare.

    Neighbouring rows are alike where a user's rows stand together, or hours follow each other. So X² of the two parts
    is judged by that of the stretches within them (Rao and Scott's first-order correction), or by the number of runs.
    """
    one, other = (_indices(codes, values) for codes in (one, other))
    tables = [_by_stretch(indices, sample, len(values) + 1) for indices, sample in ((one, a), (other, b))]
    counts = np.stack([table.sum(0) for table in tables])
    free, within = int(np.count_nonzero(counts.sum(0))) - 1, sum(len(table) - 1 for table in tables)
    if free < 1 or not within:
        return None
    unlike = max(1.0, sum(map(_chi_square, tables)) / (free * within), _by_runs(one, other))
    is_significant = _chi_square(counts) / free / unlike > _most_by_chance(free)
    chance = unlike * free * float((1 / counts.sum(1)).sum())
    return Drift(counts / counts.sum(1, keepdims=True), _stability(counts) - chance, is_significant)


def _indices(codes: Codes, values: Codes) -> Codes:
    """(n,) the index of each code in `values` (K,), K for others."""
    index = np.searchsorted(values, codes)
    return np.where(np.append(values, -1)[index] == codes, index, len(values)) if len(values) else np.zeros_like(codes)


def _by_stretch(indices: Codes, sample: Sample, count: int) -> NDArray[np.float64]:
    """(S, count) weights of rows by stretch and index."""
    cells = np.bincount(sample.stretch * count + indices, sample.weight, sample.stretches * count)
    return np.asarray(cells, np.float64).reshape(-1, count)


def _by_runs(*parts: Codes) -> float:
    """How many times the variance of independent rows that of runs is; 1 where rows do not come in runs."""
    expected = runs = 0.0
    for indices in parts:
        shares = np.bincount(indices) / len(indices)
        expected += 1 + (len(indices) - 1) * (1 - float(shares @ shares))
        runs += 1 + np.count_nonzero(indices[1:] != indices[:-1])
    return 2 * expected / runs if expected >= RUNS * runs else 1.0


def _stability(counts: NDArray[np.float64]) -> float:
    """Population stability index of two rows of counts, half a row added to each."""
    smooth = counts[:, counts.sum(0) > 0] + 0.5
    one, other = smooth / smooth.sum(1, keepdims=True)
    return float((one - other) @ np.log(one / other))


def _chi_square(counts: NDArray[np.float64]) -> float:
    """Pearson's, of a table whose rows have one distribution if nothing but chance parts them."""
    rows, columns = counts.sum(1, keepdims=True), counts.sum(0)
    expected = rows * columns / columns.sum()
    return float(((counts - expected) ** 2 / np.where(expected > 0, expected, 1)).sum())


def _most_by_chance(free: int) -> float:
    """Chi-square over its degrees of freedom, `STANDARD_ERRORS` standard errors out (Wilson and Hilferty 1931)."""
    part = 2 / (9 * free)
    return float((1 - part + STANDARD_ERRORS * math.sqrt(part)) ** 3)


def frequent(one: Codes, other: Codes) -> Codes:
    """The codes that both parts together have most, ascending: chosen so, chance favours neither part."""
    values, counts = np.unique(np.concatenate([one, other]), return_counts=True)
    often = counts >= LEAST_ROWS
    values, counts = values[often], counts[often]
    return np.sort(values[np.argsort(-counts, kind="stable")[:MOST_VALUES]])
