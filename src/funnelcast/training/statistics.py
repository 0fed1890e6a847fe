"""Fitting target statistics: those of a training row come from other rows alone.

A rate that counts a row's own label tells a model that label. So training rows are parted into folds, and a row gets
the rates of the rows of the other folds, or of the earlier ones where folds follow time; every other row gets those of
all training rows (Micci-Barreca 2001; ordered: Prokhorenkova et al. 2018).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from funnelcast.compiled import compiled
from funnelcast.data.batch import Batch
from funnelcast.data.categories import (
    Category,
    ListIds,
    Pairs,
    field_categories,
    flat_codes,
    list_categories,
)
from funnelcast.data.columns import UNOBSERVED
from funnelcast.data.encoder import InputSpec
from funnelcast.data.loader import seed_of
from funnelcast.data.statistics import Tally, Target, TargetStatistics, prior_strength, scale_of
from funnelcast.layers.statistics import StatisticsLayer

BLOCK = 65536
"""Rows whose labels are added up at once."""
SAMPLED = 200_000
"""Rows whose numbers decide the edges of bins."""
ALL_ROWS = ""
"""In place of a feature's name: one category that all rows have."""


def folds_of(rows: int, folds: int, seed: int) -> NDArray[np.uint8]:
    """The fold (N,) of each row, all of one size as nearly as can be; the seed decides."""
    order = np.random.default_rng(seed_of(seed, "folds")).permutation(rows)
    return (order % folds).astype(np.uint8)


def folds_by_key(keys: NDArray[Any], folds: int, seed: int) -> NDArray[np.uint8]:
    """The fold (N,) of each row as by `folds_of`, with rows of one key in one fold."""
    unique, inverse = np.unique(keys, return_inverse=True)
    return folds_of(len(unique), folds, seed)[inverse.reshape(-1)]


def folds_by_time(times: NDArray[Any], folds: int) -> NDArray[np.uint8]:
    """The same in the order of `times` (N,), those of one time in one fold."""
    ordered = np.sort(times)
    return (np.searchsorted(ordered, times, side="left") * folds // max(len(times), 1)).astype(np.uint8)


def step_rows(labels: NDArray[np.uint8], given: tuple[int, ...]) -> NDArray[np.bool_]:
    """Rows that count for each step, (N, T): that observed it and, where `given[t]` >= 0, reached that step."""
    return _counted(labels, [Target(step, parent) for step, parent in enumerate(given)])


def _counted(labels: NDArray[np.uint8], targets: Sequence[Target]) -> NDArray[np.bool_]:
    """(N, S) rows that each target is over."""
    counted: NDArray[np.bool_] = labels[:, [target.step for target in targets]] != UNOBSERVED
    for s, target in enumerate(targets):
        if target.given >= 0:
            counted[:, s] &= labels[:, target.given] == 1
    return counted


def fit_layer(
    layer: StatisticsLayer,
    train: Batch,
    rows: NDArray[np.int64],
    folds: NDArray[np.uint8],
    order: Literal["other", "earlier"],
    before: TargetStatistics | None = None,
) -> None:
    """Fit what a network reads, for rows that training does not see and, by fold, for the training rows.

    `rows` (n,): which of `train` count, each by its weight; `folds` (N,): of its rows.
    `order`: whether a training row reads the statistics of all other folds, or of the earlier ones. `before`:
    statistics of earlier rows by the layer's own ids, as of a bundle that training starts from: its bin edges,
    strengths and scales stay, as its weights were trained with them, and so does the tally of every category that no
    training row holds. A category that one holds has the training rows alone: the earlier rows may be the same ones,
    and adding them up would count labels twice and let a row read its own.
    """
    before = None if before is None or before.everyone is None else before
    edges = {name: _edges(train, column, rows, layer.bins) for name, column in layer.numbers.items()}
    edges = edges if before is None else before.edges
    layer.set(TargetStatistics(edges))
    pairs = {name: _known_pairs(each, train, rows) for name, each in layer.pairs().items()}
    if before is not None:
        pairs = {name: np.union1d(known, before.pairs[name]) for name, known in pairs.items()}
    layer.set(TargetStatistics(edges, pairs))
    tallies = add_up(layer.categories(), layer.targets, train, rows, folds)
    whole = {name: tally.whole() for name, tally in tallies.items()}
    everyone = whole.pop(ALL_ROWS)
    if before is None:
        targets = range(len(layer.targets))
        strengths = {name: np.array([prior_strength(own, s) for s in targets]) for name, own in whole.items()}
        scales = {name: scale_of(own, everyone, strengths[name]) for name, own in whole.items()}
        fitted = TargetStatistics(edges, pairs, whole, everyone, strengths, scales)
    else:
        whole = {name: _or_before(name, own, everyone, pairs, before) for name, own in whole.items()}
        fitted = TargetStatistics(edges, pairs, whole, everyone, before.strengths, before.scales)
    seen = {
        name: tally.of_other_folds() if order == "other" else tally.of_earlier_folds()
        for name, tally in tallies.items()
    }
    layer.set(fitted, seen, seen.pop(ALL_ROWS))


def _or_before(
    name: str, own: Tally, everyone: Tally, pairs: Mapping[str, NDArray[np.int64]], before: TargetStatistics
) -> Tally:
    """A category's tally, where no row holds a value that of `before`, at the rates of all rows of now."""
    assert before.everyone is not None
    old, held = before.tallies[name], own.rows[0] > 0
    if name in pairs:
        indices = 1 + np.searchsorted(pairs[name], before.pairs[name])
        old = old.placed(np.append(0, indices), len(held))
    held[0] = True
    return old.at_rates(before.everyone, everyone).unless(held, own)


def add_up(
    categories: Mapping[str, Category | ListIds],
    targets: Sequence[Target],
    train: Batch,
    rows: NDArray[np.int64],
    folds: NDArray[np.uint8],
) -> dict[str, Tally]:
    """The tallies by fold of each category, and under "" that of all rows."""
    every = {**categories, ALL_ROWS: _Everyone()}
    count, shape = int(folds.max(initial=0)) + 1, (len(targets),)
    sums = {name: np.zeros((2, count, each.size, *shape)) for name, each in every.items()}
    counts = {name: np.zeros((count, each.size)) for name, each in every.items()}
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        part = train.take(torch.from_numpy(block))
        observed, reached = target_weights(part, targets)
        for name, each in every.items():
            add_rows(folds[block], *flat_codes(each, part), observed, reached, sums[name], counts[name])
    for name, own in counts.items():
        own[:, 0] = own[:, 0] if name == ALL_ROWS else 0
    return {name: Tally(own[0], own[1], counts[name]) for name, own in sums.items()}


def id_counts(inputs: InputSpec, train: Batch, rows: NDArray[np.int64]) -> dict[str, torch.Tensor]:
    """(V,) by vocabulary: how often the training `rows` hold each id, in fields and lists together."""
    known: dict[str, Category | ListIds] = {**field_categories(inputs), **list_categories(inputs)}
    vocabularies = dict(inputs.fields) | {each.name: each.vocabulary for each in inputs.lists}
    counts = {name: np.zeros(inputs.sizes[name], np.int64) for name in inputs.vocabularies}
    for start in range(0, len(rows), BLOCK):
        part = train.take(torch.from_numpy(rows[start : start + BLOCK]))
        for name, each in known.items():
            own = counts[vocabularies[name]]
            own += np.bincount(flat_codes(each, part)[1], minlength=len(own))
    return {name: torch.from_numpy(own) for name, own in counts.items()}


class _Everyone:
    """One category."""

    size = 1

    def codes(self, batch: Batch) -> torch.Tensor:
        return torch.zeros(len(batch), dtype=torch.int32)


def target_weights(part: Batch, targets: Sequence[Target]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n, S) each: the row's weight where it counts for a target, and where it reached the target's step."""
    assert part.labels is not None
    labels = part.labels.numpy()
    weight = np.ones(len(part)) if part.weight is None else part.weight.numpy().astype(np.float64)
    observed = _counted(labels, targets) * weight[:, None]
    return observed, observed * (labels[:, [target.step for target in targets]] == 1)


@compiled
def add_rows(folds: Any, offsets: Any, ids: Any, observed: Any, reached: Any, sums: Any, counts: Any) -> None:
    """Add the weights (n, S) of each row to the sums (2, K, V, S) of its fold and of every category that it holds, and
    1 to the counts (K, V)."""
    for i in range(len(folds)):
        for at in range(offsets[i], offsets[i + 1]):
            counts[folds[i], ids[at]] += 1
            for s in range(observed.shape[1]):
                sums[0, folds[i], ids[at], s] += observed[i, s]
                sums[1, folds[i], ids[at], s] += reached[i, s]


def _edges(train: Batch, column: int, rows: NDArray[np.int64], bins: int) -> NDArray[np.float32]:
    """Edges of at most `bins` bins of a number: between its unique values if these are few, else its quantiles."""
    chosen = torch.from_numpy(rows[:: max(1, -(-len(rows) // SAMPLED))])
    values = train.numeric[chosen, column].numpy()
    edges = np.unique(values)
    if len(edges) > bins:
        edges = np.unique(np.quantile(values, np.arange(1, bins) / bins, method="lower"))
    return edges[:-1].astype(np.float32)


def _known_pairs(pairs: Pairs, train: Batch, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The pairs that training rows hold, ascending."""
    found = np.empty(0, np.int64)
    for start in range(0, len(rows), BLOCK):
        numbers = pairs.numbers(train.take(torch.from_numpy(rows[start : start + BLOCK]))).numpy()
        found = np.union1d(found, numbers[numbers >= 0])
    return found
