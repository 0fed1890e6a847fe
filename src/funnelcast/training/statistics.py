"""Fitting target statistics: those of a training row come from other rows alone.

A rate that counts a row's own label tells a model that label. So training rows are parted into folds, and a row gets
the rates of the rows of the other folds; every other row gets those of all training rows (Micci-Barreca 2001).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from funnelcast.compiled import compiled
from funnelcast.data.batch import Batch
from funnelcast.data.columns import UNOBSERVED
from funnelcast.data.encoder import InputSpec
from funnelcast.data.loader import seed_of
from funnelcast.data.statistics import Statistics

BLOCK = 65536
"""Rows whose labels are added up at once."""
_ALL = ""
"""In place of a feature's name: a field that holds one id in all rows."""


def folds_of(rows: int, folds: int, seed: int) -> NDArray[np.uint8]:
    """The fold (N,) of each row, all of one size as nearly as can be; the seed decides."""
    order = np.random.default_rng(seed_of(seed, "folds")).permutation(rows)
    return (order % folds).astype(np.uint8)


def step_rows(labels: NDArray[np.uint8], given: tuple[int, ...]) -> NDArray[np.bool_]:
    """Rows that count for each step, (N, T): that observed it and, where `given[t]` >= 0, reached that step."""
    counted: NDArray[np.bool_] = labels != UNOBSERVED
    for step, parent in enumerate(given):
        if parent >= 0:
            counted[:, step] &= labels[:, parent] == 1
    return counted


def fit_statistics(
    inputs: InputSpec,
    names: Sequence[str],
    train: Batch,
    rows: NDArray[np.int64],
    folds: NDArray[np.uint8],
    given: tuple[int, ...],
    smoothing: float,
) -> tuple[Statistics, Statistics]:
    """Those for rows that training does not see, and those for the training rows, a table per fold.

    `names`: of fields and lists; `rows` (n,): which of `train` count, each by its weight; `folds` (N,): of its rows;
    `given`: as for `step_rows`; `smoothing` > 0: weight of the rows that every id starts with, at the rate of all rows.
    """
    sums, counts = _add_up(inputs, names, train, rows, folds, given)
    others = {name: _of_other_folds(values) for name, values in sums.items()}
    whole = {name: values.sum(1, keepdims=True) for name, values in sums.items()}
    kept = {name: counts[name] for name in names}
    return Statistics(_rates(whole, smoothing), kept), Statistics(_rates(others, smoothing), kept)


def _add_up(
    inputs: InputSpec,
    names: Sequence[str],
    train: Batch,
    rows: NDArray[np.int64],
    folds: NDArray[np.uint8],
    given: tuple[int, ...],
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float32]]]:
    """By feature: weights (2, K, ids, T) of the rows that observed and that reached each step, and counts (ids,)."""
    sizes = {name: inputs.sizes[vocabulary] for name, vocabulary in _vocabularies(inputs).items() if name in names}
    sizes[_ALL] = 1
    shape = int(folds.max(initial=0)) + 1, len(given)
    sums = {name: np.zeros((2, shape[0], size, shape[1])) for name, size in sizes.items()}
    counts = {name: np.zeros(size, np.float32) for name, size in sizes.items()}
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        part = train.take(torch.from_numpy(block))
        observed, reached = _weights(part, given)
        for name in sizes:
            offsets, ids = _lists(part, inputs, name)
            add_rows(folds[block], offsets, ids, observed, reached, sums[name], counts[name])
    for values in counts.values():
        values[0] = 0
    return sums, counts


def _vocabularies(inputs: InputSpec) -> dict[str, str]:
    return dict(inputs.fields) | {each.name: each.vocabulary for each in inputs.lists}


def _weights(part: Batch, given: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n, T) each: the row's weight where it observed a step, and where it reached it."""
    assert part.labels is not None
    labels = part.labels.numpy()
    weight = np.ones(len(part)) if part.weight is None else part.weight.numpy().astype(np.float64)
    observed = step_rows(labels, given) * weight[:, None]
    return observed, observed * (labels == 1)


def _lists(part: Batch, inputs: InputSpec, name: str) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Offsets (n + 1,) and ids of a feature; a field is a list of one id per row."""
    if name in part.lists:
        return part.lists[name].offsets.numpy(), part.lists[name].ids.numpy()
    offsets = np.arange(len(part) + 1)
    if name == _ALL:
        return offsets, np.zeros(len(part), np.int32)
    place = [field for field, _ in inputs.fields].index(name)
    return offsets, part.ids[:, place].contiguous().numpy()


@compiled
def add_rows(folds: Any, offsets: Any, ids: Any, observed: Any, reached: Any, sums: Any, counts: Any) -> None:
    """Add the weights (n, T) of each row to the sums (2, K, ids, T) of its fold and of every id that it holds."""
    for i in range(len(folds)):
        for at in range(offsets[i], offsets[i + 1]):
            counts[ids[at]] += 1
            for step in range(observed.shape[1]):
                sums[0, folds[i], ids[at], step] += observed[i, step]
                sums[1, folds[i], ids[at], step] += reached[i, step]


def _of_other_folds(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Those of all folds but one, for each. Added up, as total minus own would keep the own labels in its rounding."""
    return np.stack([np.delete(sums, fold, 1).sum(1) for fold in range(sums.shape[1])], 1)


def _rates(sums: dict[str, NDArray[np.float64]], smoothing: float) -> dict[str, NDArray[np.float32]]:
    observed, reached = sums[_ALL]  # (K, 1, T) each
    prior = np.divide(reached, observed, out=np.zeros_like(reached), where=observed > 0)
    rates = {}
    for name, (own_observed, own_reached) in sums.items():
        smoothed = (own_reached + smoothing * prior) / (own_observed + smoothing)
        smoothed[:, :1] = prior
        rates[name] = smoothed.astype(np.float32)
    del rates[_ALL]
    return rates
