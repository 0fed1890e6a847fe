"""The matrix that trees read: its columns one by one, and rows that do not depend on each other."""

from typing import get_args

import numpy as np
import pytest
import torch

from funnelcast.boosting.id_rates import fit_id_rates
from funnelcast.boosting.matrix import Ids, Matrix
from funnelcast.data.batch import Batch
from funnelcast.training.statistics import folds_of
from tests.data.listed import INPUTS, draw

COLUMNS, ROWS = draw(60), np.arange(60)
FOLDS = folds_of(60, 3, 0)
NAMES = ("user", "item", "tags", "history")
WHOLE, OTHERS = fit_id_rates(INPUTS, NAMES, Batch.of(COLUMNS), ROWS, FOLDS, (-1, -1, -1), 1.0)


def expected(row: int, ids: Ids, fold: int | None) -> list[float]:
    """One row's numbers, in plain loops."""
    rates = {name: (WHOLE if fold is None else OTHERS).rates[name][fold or 0].astype(float) for name in NAMES}
    found: list[float] = []
    if ids != "target_statistics":
        found += COLUMNS.ids[row].tolist()
    for place, name in enumerate(("user", "item") if ids != "categorical" else ()):
        i = int(COLUMNS.ids[row, place])
        found += [*rates[name][i], WHOLE.counts[name][i]]
    found.append(COLUMNS.numeric[row, 0])
    for name in ("tags", "history"):
        own = COLUMNS.ragged[name].take(np.array([row]))
        weights = [1.0] * len(own.ids) if own.weights is None else own.weights.tolist()
        mass = sum(map(abs, weights))
        for step in range(3):
            total = sum(w * rates[name][i, step] for i, w in zip(own.ids, weights, strict=True))
            found.append(total / mass if mass else rates[name][0, step])
        if name == "history":
            found += rates[name][own.ids[-1] if len(own.ids) else 0].tolist()
        found.append(len(own.ids))
    return found


@pytest.mark.parametrize("ids", get_args(Ids))
def test_the_columns(ids: Ids) -> None:
    matrix, batch = Matrix(INPUTS, ids), Batch.of(COLUMNS).take(torch.arange(60))
    for statistics, folds in ((WHOLE, None), (OTHERS, FOLDS)):
        found = matrix(batch, statistics, folds)
        assert found.dtype == np.float64 and np.isfinite(found).all()
        for row in range(60):
            np.testing.assert_allclose(found[row], expected(row, ids, None if folds is None else folds[row]))
    assert matrix.categorical == ([] if ids == "target_statistics" else [0, 1])
    assert matrix.by_statistics == (["tags", "history"] if ids == "categorical" else list(NAMES))


@pytest.mark.parametrize("ids", get_args(Ids))
def test_a_row_does_not_depend_on_the_others(ids: Ids) -> None:
    matrix, batch = Matrix(INPUTS, ids), Batch.of(COLUMNS)
    whole = matrix(batch.take(torch.arange(60)), WHOLE)
    for size in (1, 7, 59):
        chunks = [matrix(batch.slice(start, start + size), WHOLE) for start in range(0, 60, size)]
        assert np.array_equal(np.concatenate(chunks), whole)
    assert matrix(batch.slice(0, 0), WHOLE).shape == (0, whole.shape[1])
