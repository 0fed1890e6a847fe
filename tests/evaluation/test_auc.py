"""AUC against all pairs: ties, tiny scores, weights, missing classes. Its intervals are in test_auc_interval."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from funnelcast.errors import ComparisonError
from funnelcast.evaluation.auc import auc, auc_difference, auc_interval, placements

Array = NDArray[Any]
ROWS = st.lists(st.tuples(st.booleans(), st.integers(-6, 6), st.integers(1, 4)), min_size=2, max_size=40)


def kernel(y: Array, s: Array) -> Array:
    """(m, n) 1 where the positive outscores the negative, half where they tie."""
    wins = s[y == 1][:, None] > s[y == 0][None, :]
    losses: Array = s[y == 1][:, None] < s[y == 0][None, :]
    result: Array = 0.5 + 0.5 * wins - 0.5 * losses
    return result


def slow_auc(y: Array, s: Array, w: Array | None = None) -> float:
    w = np.ones(len(y)) if w is None else w
    pairs = w[y == 1][:, None] * w[y == 0][None, :]
    return float((pairs * kernel(y, s)).sum() / pairs.sum())


def draw(seed: int, m: int, n: int, shift: float = 1.0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.r_[np.ones(m, np.uint8), np.zeros(n, np.uint8)])
    return y, rng.normal(size=m + n) + shift * y


def test_by_hand() -> None:
    y = np.array([1, 0, 1, 0, 0], np.uint8)
    s = np.array([0.9, 0.1, 0.4, 0.4, 0.6])
    assert auc(y, s) == pytest.approx((3 + 1.5) / 6, abs=1e-15)
    assert auc(y.astype(bool), np.full(5, 0.2)) == 0.5


@pytest.mark.parametrize("gap", [1e-5, 1e-12])
def test_tiny_scores_that_200_thresholds_cannot_tell_apart(gap: float) -> None:
    y, s = draw(2, 80, 2_000, 0.6)
    tiny = 2e-4 + gap * s
    thresholds = np.linspace(0, 1, 200)
    tpr, fpr = ((tiny[y == c][None, :] >= thresholds[:, None]).mean(1) for c in (1, 0))
    assert -np.trapezoid(np.r_[tpr, 0], np.r_[fpr, 0]) == pytest.approx(0.5)
    assert auc(y, tiny) == pytest.approx(slow_auc(y, s), abs=1e-6 if gap < 1e-10 else 1e-12)
    assert auc(y, tiny) == pytest.approx(slow_auc(y, tiny), abs=1e-12)
    assert auc(y, tiny) > 0.6


def test_weights_are_pair_products_and_duplicates() -> None:
    y, s = draw(3, 60, 90)
    s = s.round(1)
    w = np.random.default_rng(4).integers(0, 4, len(y)).astype(np.float32)
    twice = np.repeat(np.arange(len(y)), w.astype(int))
    assert auc(y, s, w) == pytest.approx(slow_auc(y, s, w), abs=1e-12)
    assert auc(y, s, w) == pytest.approx(slow_auc(y[twice], s[twice]), abs=1e-12)


@pytest.mark.parametrize(
    ("y", "s", "note"),
    [
        ([1, 1], [0.1, 0.2], "undefined: one class only"),
        ([0, 0], [0.1, 0.2], "undefined: one class only"),
        ([], [], "no rows"),
        ([0, 1], [0.1, math.nan], "undefined: a score is NaN"),
    ],
)
def test_undefined_is_nan_never_a_half(y: list[int], s: list[float], note: str) -> None:
    labels, scores = np.array(y, np.uint8), np.array(s)
    assert math.isnan(auc(labels, scores))
    for got in (auc_interval(labels, scores), auc_difference(labels, scores, scores)):
        assert got.note == note and all(map(math.isnan, got[:4]))


def test_bad_rows_are_refused() -> None:
    y, s = draw(14, 20, 20)
    with pytest.raises(ComparisonError, match="39 and 40 scores for 40 labels"):
        auc_difference(y, s[1:], s)
    with pytest.raises(ValueError, match="255"):
        auc(np.full(40, 255, np.uint8), s)
    with pytest.raises(ValueError, match="alike"):
        auc(y, s[:1])
    with pytest.raises(ValueError, match="not negative"):
        auc(y, s, s)


def test_placements_of_either_class_average_to_the_auc() -> None:
    y, s = draw(16, 60, 90)
    positives, negatives = placements(y == 1, s.round(1), np.ones(len(y)))
    pairs = kernel(y, s.round(1))
    np.testing.assert_allclose(positives, pairs.mean(1), atol=1e-12)
    np.testing.assert_allclose(negatives, pairs.mean(0), atol=1e-12)


@pytest.mark.parametrize("block", [1, 2, 7])
def test_ties_are_halved_over_the_edges_of_blocks(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    rng = np.random.default_rng(0)
    y, s, w = rng.random(60) < 0.5, rng.integers(0, 9, 60) / 9, rng.random(60)
    monkeypatch.setattr("funnelcast.evaluation.auc.BLOCK", block)
    above = kernel(y, s)
    positives, negatives = placements(y, s, w)
    assert positives == pytest.approx(np.average(above, axis=1, weights=w[~y]), abs=1e-14)
    assert negatives == pytest.approx(np.average(above, axis=0, weights=w[y]), abs=1e-14)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_scores_may_be_of_any_float_type_and_lie_anyhow(kind: type[np.floating[Any]]) -> None:
    draw = np.random.default_rng(3)
    labels, scores = draw.integers(0, 2, 300), draw.normal(size=600).astype(kind)[::2]
    scores.flags.writeable = False
    assert auc_interval(labels, scores) == auc_interval(labels, scores.astype(np.float64))


def test_placements_of_scores_that_are_no_numbers_come_to_an_end() -> None:
    y, s = np.array([True, False, True, False]), np.array([0.1, np.nan, np.nan, 0.3])
    assert [len(each) for each in placements(y, s, np.ones(4))] == [2, 2]


def test_constant_scores_are_a_half_for_certain() -> None:
    y = np.r_[np.ones(12, np.uint8), np.zeros(200, np.uint8)]
    assert auc_interval(y, np.full(212, 2e-4, np.float32))[:4] == (0.5, 0.5, 0.5, 0.0)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(ROWS)
def test_order_alone_matters_and_flipped_labels_mirror(rows: list[tuple[bool, int, int]]) -> None:
    y, s, w = (
        np.array(column, kind) for column, kind in zip(zip(*rows, strict=True), (bool, float, float), strict=True)
    )
    if y.all() or not y.any():
        assert math.isnan(auc(y, s, w))
        return
    assert auc(y, s, w) == pytest.approx(slow_auc(y, s, w), abs=1e-12)
    assert auc(y, np.exp(s) - 3, w) == auc(y, s, w)
    assert auc(~y, s, w) == pytest.approx(1 - auc(y, s, w), abs=1e-12)
    assert auc(y, -s, w) == pytest.approx(1 - auc(y, s, w), abs=1e-12)
