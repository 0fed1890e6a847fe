"""Target statistics as a network reads them: those of a slow loop, none with a row's own label, and no leak."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from funnelcast import ops
from funnelcast.data.batch import Batch
from funnelcast.data.columns import UNOBSERVED, Columns, Ragged
from funnelcast.data.encoder import InputSpec
from funnelcast.data.statistics import FARTHEST, STRONGEST, Tally, TargetStatistics, prior_strength, targets_of
from funnelcast.evaluation.auc import auc
from funnelcast.layers.statistics import StatisticsLayer
from funnelcast.training.statistics import add_up, fit_layer, folds_by_key, folds_by_time, folds_of
from tests.data.listed import FUNNEL, INPUTS, draw

NAMES = ("user", "item", INPUTS.numeric[0], "tags", "history")
ROWS, FOLDS = 150, 4
COLUMNS = draw(ROWS)
USED = np.flatnonzero(np.arange(ROWS) % 7)


def batch_of(columns: Columns) -> Batch:
    """As models are given rows: a list each."""
    return Batch.of(columns).take(torch.arange(len(columns)))


def layer_of(folds: NDArray[np.uint8], order: str = "other", columns: Columns = COLUMNS) -> StatisticsLayer:
    layer = StatisticsLayer(INPUTS, FUNNEL.parents, NAMES, [("user", "item")], bins=3)
    fit_layer(layer, Batch.of(columns), USED, folds, "earlier" if order == "earlier" else "other")
    return layer


def slow_rate(layer: StatisticsLayer, rows: list[int], chosen: dict[int, int], s: int, strength: float) -> float:
    """Log odds of a category beyond those of all `rows`, one row after the other; `chosen`: of them those of the
    category, and how often each."""
    assert COLUMNS.labels is not None and COLUMNS.weight is not None
    target, sums = layer.targets[s], np.zeros((2, 2))
    for row in rows:
        label, weight = COLUMNS.labels[row, target.step], float(COLUMNS.weight[row])
        if label == UNOBSERVED or (target.given >= 0 and COLUMNS.labels[row, target.given] != 1):
            continue
        for own, times in enumerate((1, chosen.get(row, 0))):
            sums[own] += np.array([weight, weight * label]) * times
    prior = sums[0, 1] / sums[0, 0] if sums[0, 0] else 0.5
    prior = min(max(prior, 1e-9), 1 - 1e-9)
    rate = (sums[1, 1] + strength * prior) / (sums[1, 0] + strength)
    return float(np.log(rate / (1 - rate)) - np.log(prior / (1 - prior)))


@pytest.mark.parametrize("order", ["other", "earlier"])
def test_a_training_row_reads_what_a_slow_loop_says_of_the_other_rows(order: str) -> None:
    folds = folds_of(ROWS, FOLDS, 5)
    layer = layer_of(folds, order)
    numbers = layer(batch_of(replace(COLUMNS, fold=folds))).numpy()
    size = len(layer.targets) + 1
    for row in range(0, ROWS, 13):
        fold, user = folds[row], COLUMNS.ids[row, 0]
        rows = [int(i) for i in USED if (folds[i] != fold if order == "other" else folds[i] < fold)]
        own = {int(i): 1 for i in rows if COLUMNS.ids[i, 0] == user}
        (center, deviation), strengths = layer.fitted.scales["user"], layer.fitted.strengths["user"]
        count = len(own) * (FOLDS / (FOLDS - 1) if order == "other" else 1)
        expected = [slow_rate(layer, rows, own, s, strengths[s]) for s in range(size - 1)] + [np.log1p(count)]
        if user == 0:
            expected = [0.0] * size
        scaled = ((np.array(expected) - center) / deviation).clip(-FARTHEST, FARTHEST)
        assert numbers[row, :size] == pytest.approx(scaled, abs=1e-4), (row, order)


def test_other_rows_read_what_all_training_rows_say() -> None:
    folds = folds_of(ROWS, FOLDS, 5)
    layer = layer_of(folds)
    numbers, size = layer(batch_of(COLUMNS)).numpy(), len(layer.targets) + 1
    (center, deviation), strengths = layer.fitted.scales["user"], layer.fitted.strengths["user"]
    for row in range(0, ROWS, 17):
        user = COLUMNS.ids[row, 0]
        own = {int(i): 1 for i in USED if COLUMNS.ids[i, 0] == user} if user else {}
        rates = [slow_rate(layer, USED.tolist(), own, s, strengths[s]) for s in range(size - 1)]
        scaled = ((np.array([*rates, np.log1p(len(own))]) - center) / deviation).clip(-FARTHEST, FARTHEST)
        assert numbers[row, :size] == pytest.approx(scaled, abs=1e-4)


@pytest.mark.parametrize("row", [1, 50, 149])
def test_what_a_row_reads_does_not_hold_its_own_labels(row: int) -> None:
    folds = folds_of(ROWS, FOLDS, 5)
    assert COLUMNS.labels is not None
    labels = COLUMNS.labels.copy()
    labels[row] = np.where(labels[row] == 1, 0, 1)
    layer, both = layer_of(folds), (COLUMNS, replace(COLUMNS, labels=labels))
    found = [add_up(layer.categories(), layer.targets, Batch.of(c), np.arange(ROWS), folds) for c in both]
    for name in found[0]:
        other, earlier = ([getattr(f[name], how)() for f in found] for how in ("of_other_folds", "of_earlier_folds"))
        for mine, theirs in (other, earlier):
            assert np.array_equal(mine.reached[folds[row]], theirs.reached[folds[row]]), name
            assert np.array_equal(mine.observed[folds[row]], theirs.observed[folds[row]]), name
        assert not np.array_equal(found[0][name].whole().reached, found[1][name].whole().reached), name


def test_what_is_unknown_reads_as_all_rows_do() -> None:
    layer = layer_of(folds_of(ROWS, FOLDS, 5))
    empty = draw(3)
    nothing = replace(
        empty,
        ids=np.zeros_like(empty.ids),
        ragged={name: Ragged(np.zeros(4, np.int64), lists.ids[:0]) for name, lists in empty.ragged.items()},
    )
    numbers, size = layer(Batch.of(nothing)).numpy(), len(layer.targets) + 1
    starts = {name: i * size for i, name in enumerate(layer.widths)}
    for name in ("user", "item", "user × item", "tags", "history"):
        start = starts[f"statistics of {name}"]
        assert not numbers[:, start : start + size - 1].any(), name


def test_kernels_and_saving_change_nothing(tmp_path: Path) -> None:
    folds = folds_of(ROWS, FOLDS, 5)
    layer, batch = layer_of(folds), batch_of(replace(COLUMNS, fold=folds))
    plain = layer(batch)
    with ops.compute(torch.device("cpu")):
        assert torch.equal(layer(batch), plain)
    layer.fitted.save(tmp_path / "statistics.safetensors")
    second = StatisticsLayer(INPUTS, FUNNEL.parents, NAMES, [("user", "item")], bins=3)
    assert not second(batch_of(COLUMNS)).any()
    second.set(TargetStatistics.load(tmp_path / "statistics.safetensors"))
    assert torch.equal(second(batch_of(COLUMNS)), layer(batch_of(COLUMNS)))


def test_folds_keep_keys_and_times_together() -> None:
    rng = np.random.default_rng(0)
    keys, times = rng.integers(0, 30, 1000), rng.integers(0, 200, 1000)
    by_key, by_time = folds_by_key(keys, 5, 1), folds_by_time(times, 5)
    assert all(len(set(by_key[keys == key])) == 1 for key in set(keys))
    assert set(by_key) == set(by_time) == set(range(5))
    order = np.argsort(times, kind="stable")
    assert (np.diff(by_time[order].astype(int)) >= 0).all()
    assert all(len(set(by_time[times == time])) == 1 for time in set(times))


@pytest.mark.parametrize("strength", [3.0, 30.0])
def test_the_strength_of_a_prior_is_that_of_the_beta_distribution_that_rates_are_of(strength: float) -> None:
    rng = np.random.default_rng(1)
    rates, sizes = rng.beta(0.2 * strength, 0.8 * strength, 20_000), rng.integers(2, 60, 20_000)
    own = tally_of(sizes, rng.binomial(sizes, rates))
    assert prior_strength(own, 0) == pytest.approx(strength, rel=0.1)
    same = tally_of(sizes, rng.binomial(sizes, 0.2))
    assert prior_strength(same, 0) > 1000
    assert prior_strength(tally_of(np.ones(5, int), np.ones(5, int)), 0) == STRONGEST


def tally_of(sizes: NDArray[np.int64], reached: NDArray[np.int64]) -> Tally:
    """Of one target; category 0 has nothing."""
    observed, hit = (np.append(0, values).astype(float)[None, :, None] for values in (sizes, reached))
    return Tally(observed, hit, observed[..., 0])


def test_targets_are_of_all_rows_and_given_the_step_before() -> None:
    assert targets_of((-1, 0, 0)) == ((0, -1), (1, -1), (1, 0), (2, -1), (2, 0))


def test_labels_drawn_at_random_are_not_told_by_rare_ids() -> None:
    """What training rows read has no rank correlation with their labels, beyond chance: 20,000 rows of 5,000 ids."""
    rng = np.random.default_rng(3)
    ids, labels = rng.integers(1, 5000, (20_000, 1)), (rng.random((20_000, 1)) < 0.3).astype(np.uint8)
    inputs = InputSpec((("user", "user"),), {"user": 5000}, ())
    rows = Columns(ids.astype(np.int32), np.empty((20_000, 0), np.float32), labels=labels)
    layer, folds = StatisticsLayer(inputs, (-1,), ["user"]), folds_of(20_000, 10, 0)
    fit_layer(layer, Batch.of(rows), np.arange(20_000), folds, "other")
    read = layer(Batch.of(replace(rows, fold=folds)))[:, 0].numpy()
    whole = layer(Batch.of(rows))[:, 0].numpy()
    assert auc(labels[:, 0], read) == pytest.approx(0.5, abs=0.02)
    assert auc(labels[:, 0], whole) > 0.7  # as statistics of all rows would tell


def test_folds_are_equal_parts_that_the_seed_decides() -> None:
    folds = folds_of(1003, 4, 1)
    assert sorted(np.bincount(folds).tolist()) == [250, 251, 251, 251]
    assert np.array_equal(folds, folds_of(1003, 4, 1)) and not np.array_equal(folds, folds_of(1003, 4, 2))
    assert len(set(folds[:20].tolist())) > 1
