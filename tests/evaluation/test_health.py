"""Collapsed outputs are named, with their figures; healthy ones, and too few rows, are not."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from funnelcast.evaluation.funnel import measure_funnel
from funnelcast.evaluation.health import Finding, find_collapsed, step_rates
from funnelcast.evaluation.paired import loss_difference
from funnelcast.schema.funnel import Funnel

Array = NDArray[Any]
CHAIN = Funnel.parse("click; conversion after click")
PARALLEL = Funnel.parse("income; marital")
RATES = [0.3, 0.06]
"""Of the process that `draw` draws from, in the mean."""


def draw(rows: int, seed: int = 0, std: float = 1.0) -> tuple[Array, Array, Array]:
    """Labels (N, 2) of a chain, p(click) and p(conversion given click), (N,) each; logits have a deviation of
    `std` about those of .3 and .2."""
    rng = np.random.default_rng(seed)
    click, given = (_sigmoid(math.log(r / (1 - r)) + std * rng.standard_normal(rows)) for r in (0.3, 0.2))
    labels = np.zeros((rows, 2), np.uint8)
    labels[:, 0] = rng.random(rows) < click
    labels[:, 1] = labels[:, 0] & (rng.random(rows) < given)
    return labels, click, given


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def found(
    labels: Array, click: Array, given: Array, weights: Array | None = None, rates: list[float] | None = None
) -> dict[str, Finding]:
    """By output, of the reach of a chain in float32, as models give it."""
    p = np.stack([click, click * given], 1)
    log_p, log_q = np.log(p).astype(np.float32), np.log1p(-p).astype(np.float32)
    measured = measure_funnel(CHAIN, labels, log_p, log_q, weights)
    rates = step_rates(labels, weights) if rates is None else rates
    return {each.output: each for each in find_collapsed(CHAIN, labels, log_p, log_q, weights, rates, measured)}


def test_a_healthy_model_has_no_findings() -> None:
    assert not found(*draw(5000))


def test_a_dead_conditional_step_is_named_though_its_reach_ranks_well() -> None:
    labels, click, _ = draw(5000)
    got = found(labels, click, np.full(5000, 0.2))
    assert list(got) == ["conversion_given_click"]
    assert got["conversion_given_click"].problems == ("constant",)
    assert "conversion_given_click: one prediction for all rows (0.2)" in got["conversion_given_click"].text
    assert "another seed" in got["conversion_given_click"].text


def test_dead_first_step() -> None:
    labels, _, given = draw(5000)
    got = found(labels, np.full(5000, 0.3), given)
    assert got["click"].problems == ("constant",) and "conversion_given_click" not in got


def test_inverted_scores_are_below_chance() -> None:
    labels, click, given = draw(5000)
    got = found(labels, click, 0.4 - 0.39 * given)
    assert "auc" in got["conversion_given_click"].problems and "click" not in got
    assert "is below chance" in got["conversion_given_click"].text


def test_overconfident_scores_rank_well_and_lose_to_the_constant_rate() -> None:
    """The figures are those of scipy's paired t test."""
    labels, click, given = draw(5000)
    sharp = _sigmoid(8 * np.log(click / (1 - click)))
    got = found(labels, sharp, given)
    assert got["click"].problems == ("log_loss",)
    y, rate = labels[:, 0] == 1, labels[:, 0].mean()
    p = np.clip(sharp, 1e-9, 1 - 1e-9)
    own, constant = (-np.where(y, np.log(q), np.log1p(-q)) for q in (p, np.full(5000, float(rate))))
    interval = stats.ttest_rel(own, constant).confidence_interval(0.95)
    text = got["click"].text.split("rate's by ")[1].split(":")[0].replace("[", "").replace("]", "").replace(",", "")
    np.testing.assert_allclose([float(each) for each in text.split()], [(own - constant).mean(), *interval], rtol=2e-2)


def test_a_wrong_level_loses_to_the_constant_rate_of_training_and_not_to_a_worse_one() -> None:
    labels, click, given = draw(5000, std=0.1)
    assert found(labels, click / 3, given)["click"].problems == ("log_loss",)
    assert "click" not in found(labels, click / 3, given, rates=[0.02, 0.004])


def test_weights_decide() -> None:
    """Rows of weight 0 are inverted; with all weights alike the same scores are below chance."""
    labels, click, given = draw(4000)
    wrong = np.arange(4000) >= 1000
    scores = np.where(wrong, 0.6 - 0.59 * click, click)
    assert "auc" in found(labels, scores, given)["click"].problems
    assert "click" not in found(labels, scores, given, (~wrong).astype(np.float32))


@pytest.mark.parametrize("rows", [1, 12, 30])
def test_few_rows_say_nothing(rows: int) -> None:
    labels, click, given = draw(rows)
    assert not found(labels, 1 - click, given) and not found(labels, np.full(rows, 0.9), np.full(rows, 0.9))


def test_one_class_says_nothing_but_that_predictions_are_constant() -> None:
    labels, click, given = draw(500)
    labels[:, 1] = 0
    assert not found(labels, click, given, rates=RATES)
    assert set(found(labels, click, np.full(500, 0.2), rates=RATES)) == {"conversion_given_click"}


def test_unobserved_labels_and_parallel_steps() -> None:
    labels, click, _ = draw(4000)
    labels[:, 1] = labels[::-1, 0]
    labels[:2000, 1] = 255
    p = np.stack([click, np.full(4000, 0.3)], 1)
    rows = PARALLEL, labels, np.log(p), np.log1p(-p), None
    got = find_collapsed(*rows, step_rates(labels), measure_funnel(*rows))
    assert [each.output for each in got] == ["marital"]
    assert step_rates(labels)[1] == (labels[2000:, 1] == 1).mean()
    assert math.isnan(step_rates(np.full((3, 1), 255, np.uint8))[0])


def test_no_rate_in_training_is_no_rate_to_lose_to() -> None:
    labels, click, given = draw(2000)
    assert not found(labels, click, given, rates=[math.nan, 0.0])


@pytest.mark.slow
@pytest.mark.parametrize("rows", [60, 2000])
def test_healthy_models_are_left_alone(rows: int) -> None:
    """Of 200 draws of the process itself: three outputs each, one alarm in forty at most were they at chance."""
    alarms = sum(len(found(*draw(rows, seed, std=0.5), rates=RATES)) for seed in range(200))
    assert alarms <= 6


def test_scores_of_chance_are_called_below_it_as_often_as_the_interval_says() -> None:
    """A two-sided 95 % interval lies below .5 one time in forty: 5 of 200; 13 has a probability under .002."""
    rng = np.random.default_rng(1)
    alarms = 0
    for seed in range(200):
        labels, click, given = draw(800, seed)
        got = found(labels, rng.permutation(click), given)
        alarms += "click" in got and "auc" in got["click"].problems
    assert 0 < alarms < 13


def test_the_paired_interval_covers() -> None:
    """The true mean difference to the constant rate is that of a large draw."""

    def one(rows: int, seed: int) -> Any:
        labels, click, _ = draw(rows, seed)
        return loss_difference(labels[:, 0], (np.log(click), np.log1p(-click)), (math.log(0.3), math.log(0.7)))

    truth = one(500_000, 1000).estimate
    inside = sum((got := one(300, seed)).low <= truth <= got.high for seed in range(400))
    assert 364 <= inside <= 393  # 380 ± 3 deviations
