"""Scores of rows by one feature alone: by its value, or by the rates of its values in other rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.columns import Ragged
from funnelcast.data_checks.reading import Column

Rows = NDArray[np.int64]
STRENGTH = 10.0
"""A value's rate is drawn to that of all rows as by so many of them."""


def scores(
    column: Column, fit: Rows, labels: NDArray[np.bool_], held: Rows
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """How rows `held` (h,) are scored, and their scores; rates are those of the rows `fit` (f,) with `labels` (f,)."""
    if column.numbers is not None:
        yield "length" if column.lists else "value", column.numbers[held]
    codes = column.binned
    yield "rate of each value", _rates(codes[fit], labels, int(codes.max()) + 1)[codes[held]]
    if column.lists is not None and len(column.lists.ids):
        lists = column.lists.take(fit)
        of_ids = np.repeat(labels, np.diff(lists.offsets))
        rates = _rates(lists.ids, of_ids, int(column.lists.ids.max()) + 1)
        yield from _of_lists(column.lists.take(held), rates, float(labels.mean()))


def _rates(codes: NDArray[np.int32] | Rows, labels: NDArray[np.bool_], count: int) -> NDArray[np.float64]:
    """(count,) the rate of each code, drawn to that of all."""
    rate = float(labels.mean()) if len(labels) else 0.0
    rows, reached = np.bincount(codes, minlength=count), np.bincount(codes[labels], minlength=count)
    return np.asarray((reached + STRENGTH * rate) / (rows + STRENGTH))


def _of_lists(lists: Ragged, rates: NDArray[np.float64], empty: float) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Mean and highest rate of the ids of each list; `empty` of one without."""
    each, lengths = rates[lists.ids], np.diff(lists.offsets)
    starts = lists.offsets[:-1][lengths > 0]
    for how, ufunc, shares in (("mean rate of its ids", np.add, lengths), ("highest rate of its ids", np.maximum, 1)):
        found = np.full(len(lengths), empty)
        if len(starts):
            found[lengths > 0] = ufunc.reduceat(each, starts)
            found[lengths > 0] /= shares[lengths > 0] if isinstance(shares, np.ndarray) else shares
        yield how, found
