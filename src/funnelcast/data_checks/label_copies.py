"""A label among the features: a feature whose values say which steps a row reached, and say nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.encoder import Encoder
from funnelcast.data_checks.column import Column
from funnelcast.data_checks.finding import COPY, Finding
from funnelcast.data_checks.formatting import percent, raw_value
from funnelcast.data_checks.hashing import combinations

NEARLY_ALL = 0.99
"""Of the rows of either class, not of all: a constant agrees with a rare label in 99.8 % of all rows."""
FEWEST = 10
"""Rows of a class below which nothing is said."""


class Copy(NamedTuple):
    """A step that a feature tells."""

    step: int
    share: float
    """Of the rows that reached it, those with a value that the feature has there."""
    rest: float
    """The same of those that did not."""
    values: list[int]
    others: list[int]


def label_copy(column: Column, encoder: Encoder) -> Finding | None:
    """A feature that is a function of the labels, with other values where a step was reached than where it was not."""
    copies = list(_copies(column))
    if not copies:
        return None
    steps = [encoder.schema.funnel.names[each.step] for each in copies]
    first = max(copies, key=lambda each: min(each.share, each.rest))
    step, labels = encoder.schema.funnel.names[first.step], column.sample.labels[:, first.step]
    reached, other = (_values(column, encoder, indices) for indices in (first.values, first.others))
    rows, rest = np.count_nonzero(labels == 1), np.count_nonzero(labels == 0)
    return Finding(
        COPY,
        column.name,
        "error",
        f"it is {reached} in {percent(first.share)} of the {rows:,} training rows that reached {step}, and "
        f"{other} in {percent(first.rest)} of the {rest:,} others: it says who reached {' and '.join(steps)}, "
        "and nothing else",
        "take it out of [features]: when a prediction is made, nobody knows it yet",
    )


def _copies(column: Column) -> Iterator[Copy]:
    labels, inverse = column.sample.labels, column.inverse
    _, combination = np.unique(combinations(labels), return_inverse=True)
    usual = _usual(combination, inverse)
    is_usual = inverse == usual[combination]
    often = np.bincount(combination)[combination] >= FEWEST
    for step in range(labels.shape[1]):
        classes = [often & (labels[:, step] == label) for label in (1, 0)]
        if min(np.count_nonzero(each) for each in classes) < FEWEST:
            continue
        share, rest = (float(is_usual[each].mean()) for each in classes)
        values, others = (np.unique(usual[combination[each]]).tolist() for each in classes)
        if min(share, rest) >= NEARLY_ALL and not set(values) & set(others):
            yield Copy(step, share, rest, values, others)


def _usual(groups: NDArray[np.int64], inverse: NDArray[np.int64]) -> NDArray[np.int64]:
    """(G,) the most frequent value of each group."""
    pairs, counts = np.unique(groups * (inverse.max() + 1) + inverse, return_counts=True)
    group, value = np.divmod(pairs, inverse.max() + 1)
    order = np.lexsort((counts, group))
    last = np.searchsorted(group[order], np.arange(groups.max() + 1), side="right") - 1
    usual: NDArray[np.int64] = value[order][last]
    return usual


def _values(column: Column, encoder: Encoder, indices: list[int]) -> str:
    if column.lists is not None:
        return "one certain list" if len(indices) == 1 else f"one of {len(indices)} lists"
    return " or ".join(raw_value(encoder, column.name, column.values[index]) or "no value" for index in indices)
