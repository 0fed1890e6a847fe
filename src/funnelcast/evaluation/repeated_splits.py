"""Small data: models trained and tested on repeated random splits, and the interval of their mean difference."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from funnelcast.errors import ComparisonError
from funnelcast.evaluation.auc import Interval
from funnelcast.evaluation.rows import Array, Floats
from funnelcast.evaluation.standard_errors import quantile

Ints = NDArray[np.intp]


class Split(NamedTuple):
    """Row numbers, ascending; every row is in one of the two."""

    train: Ints
    test: Ints


def resampled_interval(differences: Floats, test_share: float, level: float = 0.95) -> Interval:
    """Mean of two models' differences (R,), one per random split, with the corrected resampled t interval.

    test_share in (0, 1) is the tested part of the rows, level in (0, 1). The truth is the expected difference of models
    trained on (1 - test_share) N rows, over training and test rows of the population. Splits share rows, so that their
    differences are alike and the plain t interval is far too narrow: the variance of the mean is
    (1 / R + test_share / (1 - test_share)) s² (Nadeau & Bengio 2003), Student's t having R - 1 degrees of freedom. No
    split tells how alike they are, so this is a rule that serves and no theorem, and more splits do not make the
    interval vanish. A NaN is left out, which `note` tells; no interval with under 2 splits. Raises ComparisonError for
    other shapes or shares.
    """
    _check_share(test_share)
    if differences.ndim != 1:
        raise ComparisonError(f"differences of shape {differences.shape}; give one per split, (R,)")
    known = differences[~np.isnan(differences)]
    notes = [f"{len(differences) - len(known)} of {len(differences)} splits undefined"]
    notes = notes if len(known) < len(differences) else []
    mean = float(known.mean()) if len(known) else math.nan
    if len(known) < 2:
        return Interval(mean, math.nan, math.nan, math.nan, ", ".join([*notes, "under 2 splits: no interval"]))
    error = float(known.std(ddof=1)) * math.sqrt(1 / len(known) + test_share / (1 - test_share))
    half = quantile(level, len(known) - 1) * error
    return Interval(mean, mean - half, mean + half, error, ", ".join(notes))


def repeated_splits(
    rows: int,
    repeats: int,
    test_share: float,
    seed: int = 0,
    labels: Array | None = None,
    groups: Array | None = None,
) -> list[Split]:
    """`repeats` random splits of so many rows, `test_share` of them tested; split r depends on seed and r alone.

    labels (rows, T), 1 for a step reached: rows of each depth of the funnel, the number of steps reached, are tested in
    the same share, to one row. groups (rows,): whole groups (users, campaigns) are tested, `test_share` of the groups
    (of each depth that a group's deepest row has). Raises ComparisonError if shapes or the share are wrong, or a part
    would be empty.
    """
    _check_share(test_share)
    if (labels is not None and (labels.ndim != 2 or len(labels) != rows)) or (
        groups is not None and groups.shape != (rows,)
    ):
        shapes = [None if given is None else given.shape for given in (labels, groups)]
        raise ComparisonError(f"labels and groups of shapes {shapes} for {rows} rows; give (rows, T) and (rows,)")
    units = np.arange(rows) if groups is None else np.unique(groups, return_inverse=True)[1]
    strata = np.zeros(units.max(initial=-1) + 1, np.intp)
    if labels is not None:
        np.maximum.at(strata, units, (labels == 1).sum(1))
    if min(test_share, 1 - test_share) * len(strata) < 1 - 1e-9:
        kind = "rows" if groups is None else "groups"
        raise ComparisonError(f"{len(strata)} {kind} with a test share of {test_share} may leave a part empty")
    return [_split(units, strata, test_share, np.random.default_rng([seed, repeat])) for repeat in range(repeats)]


def _split(units: Ints, strata: Ints, test_share: float, rng: Generator) -> Split:
    """Systematic sampling of the units (K,), in random order within each stratum (K,)."""
    order = np.lexsort((rng.random(len(strata)), strata))
    passed = np.floor(rng.random() + test_share * np.arange(len(order) + 1))
    tested = np.zeros(len(order), np.bool_)
    tested[order] = np.diff(passed) > 0
    return Split(np.flatnonzero(~tested[units]), np.flatnonzero(tested[units]))


def _check_share(test_share: float) -> None:
    if not 0 < test_share < 1:
        raise ComparisonError(f"a test share of {test_share} leaves nothing to train or to test on; give one in (0, 1)")
