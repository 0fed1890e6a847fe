"""Offsets of a logit: the prediction by brute force, and the prior that is found again."""

import numpy as np
import pytest

from funnelcast.evaluation.group_priors import OffsetPrior, recalibrated
from funnelcast.evaluation.logistic import sigmoid
from funnelcast.evaluation.rows import Array, Floats

PRIOR = OffsetPrior(-0.2, 0.7)


def brute_force(logits: Floats, labels: Array, query: Floats) -> Floats:
    """Mean probabilities over δ on a fine grid, each weighed by its likelihood and density."""
    deltas = np.linspace(PRIOR.mean - 8 * PRIOR.std, PRIOR.mean + 8 * PRIOR.std, 40_001)
    weights = np.exp(-(((deltas - PRIOR.mean) / PRIOR.std) ** 2) / 2)
    for logit, label in zip(logits, labels, strict=True):
        weights *= sigmoid(logit + deltas) if label else sigmoid(-logit - deltas)
    return np.array([(weights * sigmoid(a + deltas)).sum() / weights.sum() for a in query])


@pytest.mark.parametrize(("rows", "positives"), [(0, 0), (1, 0), (1, 1), (16, 0), (16, 16), (60, 3)])
def test_predictions_are_those_of_brute_force(rows: int, positives: int) -> None:
    logits, query = np.linspace(-4, -1, rows), np.array([-6.0, -3, 0, 5])
    labels = (np.arange(rows) < positives).astype(np.uint8)
    log_p, log_q = recalibrated(PRIOR, logits, labels, query)
    expected = brute_force(logits, labels, query)
    np.testing.assert_allclose(np.exp(log_p), expected, rtol=1e-5)
    np.testing.assert_allclose(np.exp(log_q), 1 - expected, rtol=1e-5)


def test_many_rows_move_every_prediction_to_the_groups_rate() -> None:
    """20,000 rows at logit -3 of which a tenth are positive: the offset is that between the two logits."""
    labels = (np.arange(20_000) % 10 == 0).astype(np.uint8)
    log_p, _ = recalibrated(PRIOR, np.full(20_000, -3.0), labels, np.array([-3.0, -2]))
    expected = sigmoid(np.log(1 / 9) + np.array([0.0, 1]))
    np.testing.assert_allclose(np.exp(log_p), expected, rtol=0.01)


@pytest.mark.parametrize("std", [0.0, 0.3, 0.9])
def test_the_prior_of_many_groups_is_found_again(std: float) -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 400, 60_000)
    logits = rng.normal(-1.5, 0.5, len(groups))
    p = sigmoid(logits + rng.normal(-0.25, std, 400)[groups])
    found = OffsetPrior.fit(logits, (rng.random(len(p)) < p).astype(np.uint8), groups)
    assert found.mean == pytest.approx(-0.25, abs=0.11) and found.std == pytest.approx(std, abs=0.11)


def test_a_prior_without_spread_is_a_constant() -> None:
    log_p, _ = recalibrated(OffsetPrior(0.5, 0.0), np.zeros(3), np.ones(3, np.uint8), np.array([-1.0, 2]))
    np.testing.assert_allclose(np.exp(log_p), sigmoid(np.array([-0.5, 2.5])))


def test_a_prior_fitted_block_by_block_is_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    groups, logits = rng.integers(0, 50, 2000), rng.normal(-1, 0.5, 2000)
    labels = (rng.random(2000) < sigmoid(logits + rng.normal(0.3, 0.6, 50)[groups])).astype(np.uint8)
    whole = OffsetPrior.fit(logits, labels, groups)
    for size in (1, 7, 50):
        monkeypatch.setattr("funnelcast.evaluation.group_priors.BLOCK", size)
        assert OffsetPrior.fit(logits, labels, groups) == whole
