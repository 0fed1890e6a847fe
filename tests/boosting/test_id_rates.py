"""Target statistics: those of a slow loop, and none with a row's own label."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from funnelcast.boosting.id_rates import IdRates, fit_id_rates
from funnelcast.boosting.matrix import Matrix
from funnelcast.data.batch import Batch
from funnelcast.data.columns import UNOBSERVED, Columns
from funnelcast.training.statistics import folds_of, step_rows
from tests.data.listed import FUNNEL, INPUTS, draw

NAMES = ("user", "item", "tags", "history")
ENTIRE, GIVEN = (-1, -1, -1), FUNNEL.parents
FOLDS, SMOOTHING = 3, 2.5


def fitted(columns: Columns, of: tuple[int, ...], used: NDArray[np.int64]) -> tuple[IdRates, IdRates]:
    return fit_id_rates(INPUTS, NAMES, Batch.of(columns), used, folds_of(len(columns), FOLDS, 5), of, SMOOTHING)


def ids_of(columns: Columns, name: str, row: int) -> list[int]:
    if name in ("user", "item"):
        return [int(columns.ids[row, ("user", "item").index(name)])]
    return list(columns.ragged[name].take(np.array([row])).ids.tolist())


def slow(columns: Columns, name: str, i: int, step: int, of: tuple[int, ...], rows: list[int]) -> float:
    """The smoothed rate of one id among `rows`, one row after the other."""
    assert columns.labels is not None and columns.weight is not None
    all_sums, own_sums = [0.0, 0.0], [0.0, 0.0]
    for row in rows:
        label, weight = columns.labels[row, step], float(columns.weight[row])
        if label == UNOBSERVED or (of[step] >= 0 and columns.labels[row, of[step]] != 1):
            continue
        for sums, times in ((all_sums, 1), (own_sums, ids_of(columns, name, row).count(i))):
            sums[0] += times * weight
            sums[1] += times * weight * label
    prior = all_sums[1] / all_sums[0] if all_sums[0] else 0.0
    return prior if i == 0 else (own_sums[1] + SMOOTHING * prior) / (own_sums[0] + SMOOTHING)


@pytest.mark.parametrize("of", [ENTIRE, GIVEN], ids=["entire", "given_parent"])
def test_rates_are_those_of_a_slow_loop(of: tuple[int, ...]) -> None:
    columns, used = draw(120), np.flatnonzero(np.arange(120) % 7)
    folds = folds_of(120, FOLDS, 5)
    whole, others = fitted(columns, of, used)
    for name in NAMES:
        assert whole.rates[name].shape == (1, INPUTS.sizes[{"tags": "tag", "history": "item"}.get(name, name)], 3)
        for i in range(whole.rates[name].shape[1]):
            for step in range(3):
                assert whole.rates[name][0, i, step] == pytest.approx(slow(columns, name, i, step, of, used.tolist()))
                for fold in range(FOLDS):
                    rows = used[folds[used] != fold].tolist()
                    assert others.rates[name][fold, i, step] == pytest.approx(slow(columns, name, i, step, of, rows))


def test_counts() -> None:
    columns, used = draw(120), np.arange(10, 120)
    for statistics in fitted(columns, ENTIRE, used):
        for name in NAMES:
            every = [i for row in used.tolist() for i in ids_of(columns, name, row)]
            assert statistics.counts[name][1:].tolist() == [
                every.count(i) for i in range(1, len(statistics.counts[name]))
            ]
            assert statistics.counts[name][0] == 0


def test_conditional_rates_are_others_than_those_of_the_entire_space() -> None:
    columns, used = draw(120), np.arange(120)
    (entire, _), (conditional, _) = fitted(columns, ENTIRE, used), fitted(columns, GIVEN, used)
    for name in NAMES:
        assert np.array_equal(entire.rates[name][..., [0, 2]], conditional.rates[name][..., [0, 2]])
        assert (conditional.rates[name][..., 1] > entire.rates[name][..., 1]).all()


@settings(max_examples=60, deadline=None)
@given(
    row=st.integers(0, 89),
    label=st.sampled_from([0, 1, UNOBSERVED]),
    step=st.integers(0, 2),
    seed=st.integers(0, 5),
    weight=st.sampled_from([0.3, 1e12]),
)
@pytest.mark.parametrize("of", [ENTIRE, GIVEN], ids=["entire", "given_parent"])
def test_a_rows_own_label_never_changes_its_features(
    of: tuple[int, ...], row: int, label: int, step: int, seed: int, weight: float
) -> None:
    """Bit for bit, though a sum less what a row of great weight added to it is not that of the others. And it does
    change the features of the other folds, or nothing would be learned."""
    columns, rng = draw(90, seed), np.random.default_rng(seed)
    assert columns.labels is not None
    columns.weight[:] = rng.random(90) + 0.1  # type: ignore[index]
    columns.weight[row] = weight  # type: ignore[index]
    matrix, folds, rows = Matrix(INPUTS, "target_statistics"), folds_of(90, FOLDS, 5), Batch.of(columns).slice(0, 90)

    def features() -> NDArray[np.float64]:
        return matrix(rows, fitted(columns, of, np.arange(90))[1], folds)

    before, was_counted = features(), step_rows(columns.labels, of)[row, step]
    flipped = columns.labels[row, step] != label
    columns.labels[row, step] = label
    after, own = features(), folds == folds[row]
    assert np.array_equal(before[own], after[own])
    if flipped and was_counted:
        assert not np.array_equal(before[~own], after[~own])


def test_without_a_row_every_id_has_a_rate() -> None:
    columns = draw(20)
    assert columns.labels is not None
    columns.labels[:] = UNOBSERVED
    for statistics in fitted(columns, ENTIRE, np.arange(20)):
        assert all(not rates.any() for rates in statistics.rates.values())


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    whole, _ = fitted(draw(50), ENTIRE, np.arange(50))
    whole.save(tmp_path / "file")
    found, expected = IdRates.load(tmp_path / "file").arrays(), whole.arrays()
    assert found.keys() == expected.keys() and all(np.array_equal(found[n], expected[n]) for n in found)
    IdRates({}, {}).save(tmp_path / "none")
    assert not IdRates.load(tmp_path / "none").arrays()
