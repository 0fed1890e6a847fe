"""Losses against plain loops; loss weights against the paper's equation and their own optimum."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from funnelcast import ops
from funnelcast.data.batch import Batch
from funnelcast.data.columns import UNOBSERVED
from funnelcast.errors import ConfigError
from funnelcast.ops import Reach, chain_reach, independent_reach
from funnelcast.schema.funnel import Funnel
from funnelcast.training.losses import (
    LossConfig,
    LossWeights,
    build_loss_weights,
    constant_entropy,
    given_parent,
    observed_weight,
    rates_given_parent,
)
from funnelcast.training.objective import BatchTotals

PARENTS = (-1, 0, 1)
FUNNEL = Funnel.parse("click; cart after click; buy after cart")


def draw(seed: int, rows: int = 60) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (B, T) float64, labels with every seventh or so unobserved, weights with some zeros."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (rows, 3)).cumprod(1)
    labels[rng.uniform(size=labels.shape) < 0.15] = UNOBSERVED
    weight = rng.integers(0, 4, rows).astype(np.float64)
    logits = rng.normal(0, 2, (rows, 3))
    return torch.from_numpy(logits), torch.from_numpy(labels.astype(np.uint8)), torch.from_numpy(weight)


def step_losses(reach: Reach, labels: Tensor, weight: Tensor | None, config: LossConfig) -> Tensor:
    return ops.step_losses(reach, labels, weight, config.factors(labels.shape[1]), config.focal_gamma)


def slow_losses(
    logits: Tensor, labels: Tensor, weight: Tensor | None, gamma: float, positive: list[float]
) -> tuple[list[float], list[float]]:
    """Sums of loss and weight per step, row by row from probabilities."""
    loss, total = [0.0] * 3, [0.0] * 3
    for i, row in enumerate(logits.tolist()):
        p = 1.0
        for t, z in enumerate(row):
            p *= 1 / (1 + math.exp(-z))
            if labels[i, t] == UNOBSERVED:
                continue
            w = 1.0 if weight is None else weight[i].item()
            right, factor = (p, positive[t]) if labels[i, t] == 1 else (1 - p, 1.0)
            loss[t] -= w * factor * (1 - right) ** gamma * math.log(right)
            total[t] += w
    return loss, total


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("positive", [None, 3.0, (1.0, 2.5, 40.0)])
@pytest.mark.parametrize("weighted", [True, False])
def test_step_losses_are_the_sums_of_the_formula(gamma: float, positive: Any, weighted: bool) -> None:
    logits, labels, weight = draw(0)
    config = LossConfig(focal_gamma=gamma, positive_weight=positive)
    given = weight if weighted else None
    factors = list(positive) if isinstance(positive, tuple) else [positive or 1.0] * 3
    found = step_losses(chain_reach(logits, PARENTS), labels, given, config)
    loss, total = slow_losses(logits, labels, given, gamma, factors)
    np.testing.assert_allclose(found, loss, rtol=1e-12)  # float64; the loop's 1 - p loses a few digits
    np.testing.assert_allclose(observed_weight(labels, given), total, rtol=0)  # small whole numbers


def test_unobserved_labels_pass_no_gradient_even_from_rows_that_broke() -> None:
    log_p = torch.tensor([[math.nan], [-1.0]], requires_grad=True)
    log_q = torch.tensor([[-math.inf], [-0.5]], requires_grad=True)
    labels = torch.tensor([[UNOBSERVED], [1]], dtype=torch.uint8)
    loss = step_losses(Reach(log_p, log_q), labels, None, LossConfig(focal_gamma=2.0)).sum()
    gradients = torch.autograd.grad(loss, [log_p, log_q])
    assert loss.item() == pytest.approx(math.exp(-0.5) ** 2, rel=1e-6)  # float32
    assert all(g[0].item() == 0 and g[1].item() != 0 for g in gradients)


def test_a_step_that_no_row_observes_has_loss_and_weight_zero() -> None:
    labels = torch.tensor([[1, UNOBSERVED, UNOBSERVED]], dtype=torch.uint8)
    sums = step_losses(chain_reach(torch.zeros(1, 3), PARENTS), labels, None, LossConfig())
    assert sums[1:].tolist() == [0, 0]
    assert observed_weight(labels, None).tolist() == [1, 0, 0]


@pytest.mark.parametrize("rows", [0, 1, 500])
def test_totals_count_what_was_observed(rows: int) -> None:
    """What no row observes counts a tiny bit, to divide by."""
    ids, labels = torch.zeros(rows, 1, dtype=torch.int32), draw(rows, rows)[1].clone()
    labels[:, 2] = UNOBSERVED
    batch = Batch(ids, torch.empty(rows, 0), labels)
    found, weighted = BatchTotals.of(batch), BatchTotals.of(replace(batch, weight=torch.ones(rows)))
    assert torch.equal(found.weights, weighted.weights) and found.weights[2] == torch.finfo(torch.float32).tiny
    assert found.rows == rows and found.weight == weighted.weight and found.weights.dtype == torch.float32


def test_the_mean_loss_does_not_grow_with_the_batch() -> None:
    """AITM's calibrator summed over the batch."""
    logits, labels, weight = draw(1)
    once = step_losses(chain_reach(logits, PARENTS), labels, weight, LossConfig()) / observed_weight(labels, weight)
    logits, labels, weight = (torch.cat([tensor] * 5) for tensor in (logits, labels, weight))
    five = step_losses(chain_reach(logits, PARENTS), labels, weight, LossConfig()) / observed_weight(labels, weight)
    torch.testing.assert_close(five, once, rtol=1e-13, atol=0)  # order of a sum


@pytest.mark.parametrize("weighting", ["uncertainty", "fixed"])
def test_micro_batches_add_up_to_the_batch(weighting: Any) -> None:
    logits, labels, weight = draw(2)
    config = LossConfig(weighting=weighting, focal_gamma=1.0)
    weights = double_weights(config)
    logits.requires_grad_()
    total = observed_weight(labels, weight)
    whole = weights.combine(step_losses(chain_reach(logits, PARENTS), labels, weight, config) / total)
    microbatches = torch.zeros((), dtype=torch.float64)
    for start in range(0, len(logits), 17):
        rows = torch.arange(start, min(start + 17, len(logits)))
        sums = step_losses(chain_reach(logits[rows], PARENTS), labels[rows], weight[rows], config)
        microbatches = microbatches + weights.combine(sums / total, share=len(rows) / len(logits))
    leaves = [logits, *weights.parameters()]
    torch.testing.assert_close(microbatches, whole, rtol=1e-13, atol=0)  # order of a sum in float64, here and below
    for mine, right in zip(torch.autograd.grad(microbatches, leaves), torch.autograd.grad(whole, leaves), strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-12, atol=1e-16)


GIVEN = (-1, 0, 1, 0, -1)
"""A tree of four steps, and one by itself."""
U = UNOBSERVED
LABELS = torch.tensor(
    [
        [1, 1, 1, 0, 1],
        [1, 1, U, U, 0],
        [1, 0, 0, 1, U],
        [1, U, U, 0, 1],
        [0, 0, 0, 0, 0],
        [U, U, U, U, 1],
        [U, 1, 1, 1, 0],
    ],
    dtype=torch.uint8,
)
"""Of seven rows; the last reached the second step though nobody saw the first."""
LABELS_GIVEN = [
    [1, 1, 1, 0, 1], [1, 1, U, U, 0], [1, 0, U, 1, U], [1, U, U, 0, 1], [0, U, U, U, 0], [U, U, U, U, 1],
    [U, U, 1, U, 0],
]  # fmt: skip


def test_labels_given_the_parent_are_those_of_rows_that_reached_it() -> None:
    found = given_parent(LABELS, GIVEN)
    assert found.tolist() == LABELS_GIVEN and found.dtype == torch.uint8
    assert torch.equal(given_parent(LABELS[:, [4]], (-1,)), LABELS[:, [4]])
    assert given_parent(LABELS[:0], GIVEN).shape == (0, 5)


@pytest.mark.parametrize("config", [LossConfig(), LossConfig(focal_gamma=1.5, positive_weight=3.0)])
def test_a_row_that_did_not_reach_the_parent_teaches_the_child_nothing(config: LossConfig) -> None:
    logits = torch.linspace(-3, 4, 35, dtype=torch.float64).view(7, 5).requires_grad_()
    weight = torch.tensor([1, 2, 3, 0.5, 1, 1, 4], dtype=torch.float64)
    loss = step_losses(independent_reach(logits, GIVEN), given_parent(LABELS, GIVEN), weight, config)
    (grad,) = torch.autograd.grad(loss.sum(), logits)
    assert (grad != 0).tolist() == [[label != UNOBSERVED for label in row] for row in LABELS_GIVEN]


@pytest.mark.parametrize("weighted", [True, False])
def test_the_loss_given_the_parent_is_a_sum_over_rows_that_reached_it(weighted: bool) -> None:
    logits, labels, weight = draw(5)
    given = given_parent(labels, PARENTS)
    found = step_losses(independent_reach(logits, PARENTS), given, weight if weighted else None, LossConfig())
    loss, total = [0.0] * 3, [0.0] * 3
    for i, (row, label) in enumerate(zip(logits.tolist(), labels.tolist(), strict=True)):
        for t, z in enumerate(row):
            if (t == 0 or label[t - 1] == 1) and label[t] != UNOBSERVED:
                p, w = 1 / (1 + math.exp(-z)), weight[i].item() if weighted else 1.0
                loss[t] -= w * math.log(p if label[t] == 1 else 1 - p)
                total[t] += w
    np.testing.assert_allclose(found, loss, rtol=1e-12)
    np.testing.assert_allclose(observed_weight(given, weight if weighted else None), total, rtol=0)
    assert total[0] > total[1] > total[2] > 0


def test_rates_given_the_parent_by_hand() -> None:
    rows = Batch(torch.zeros(7, 1), torch.zeros(7, 0), LABELS)
    assert rates_given_parent(rows, GIVEN) == pytest.approx([4 / 5, 2 / 3, 2 / 2, 1 / 3, 3 / 6])
    weights = torch.tensor([1.0, 2.0, 3.0, 0.5, 1.0, 1.0, 4.0])
    heavy = Batch(rows.ids, rows.numeric, LABELS, weights)
    expected = [6.5 / 7.5, 3 / 6, 5 / 5, 3 / 4.5, 2.5 / 9.5]
    assert rates_given_parent(heavy, GIVEN) == pytest.approx(expected)


def test_the_rate_of_a_step_whose_parent_nobody_reached_is_none() -> None:
    rows = Batch(torch.zeros(2, 1), torch.zeros(2, 0), torch.tensor([[0, 0], [U, 1]], dtype=torch.uint8))
    first, second = rates_given_parent(rows, (-1, 0))
    assert first == 0 and math.isnan(second)


def double_weights(config: LossConfig, rates: tuple[float, ...] = (0.5, 0.2, 0.01)) -> LossWeights:
    """With log σ² away from its start, where there is one."""
    weights = build_loss_weights(config, rates).double()
    for parameter, value in zip(weights.parameters(), ([0.7, -1.2, 2.0],), strict=False):
        parameter.data = torch.tensor(value[: len(rates)], dtype=torch.float64)
    return weights


@pytest.mark.parametrize("config", [
    LossConfig(focal_gamma=2.0), LossConfig(focal_gamma=0.5), LossConfig(positive_weight=50.0), LossConfig()
])  # fmt: skip
def test_derivatives_of_losses(config: LossConfig) -> None:
    logits, labels, weight = draw(3, rows=5)

    def losses(z: Tensor) -> Tensor:
        return step_losses(chain_reach(z, PARENTS), labels, weight, config)

    assert torch.autograd.gradcheck(losses, logits.requires_grad_(), fast_mode=True)
    assert torch.autograd.gradgradcheck(losses, logits, fast_mode=True)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_derivatives_stay_finite_at_extreme_logits(gamma: float) -> None:
    grid = torch.tensor([-1e4, -60.0, 0.0, 60.0, 1e4])
    z = torch.cartesian_prod(grid, grid, grid).requires_grad_()
    for y in ((0, 0, 0), (1, 0, 0), (1, 1, 1)):
        labels = torch.tensor(y, dtype=torch.uint8).expand(len(z), 3)
        loss = step_losses(chain_reach(z, PARENTS), labels, None, LossConfig(focal_gamma=gamma)).sum()
        (first,) = torch.autograd.grad(loss, z, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), z)
        assert loss.isfinite() and first.isfinite().all() and second.isfinite().all()


def test_the_entropy_is_the_loss_of_always_predicting_the_rate() -> None:
    labels = torch.tensor([[1], [0], [0], [0], [0]], dtype=torch.uint8)
    reach = Reach(torch.full((5, 1), math.log(0.2)), torch.full((5, 1), math.log(0.8)))
    sums = step_losses(reach, labels, None, LossConfig())
    torch.testing.assert_close(sums / observed_weight(labels, None), constant_entropy(torch.tensor([0.2])))
    assert constant_entropy(torch.tensor([0.0, 1.0])).tolist() == [0, 0]


def test_the_entropy_of_a_rare_step_is_accurate() -> None:
    rate = torch.tensor(2e-7)
    expected = -rate.item() * math.log(rate.item()) - (1 - rate.item()) * math.log1p(-rate.item())
    assert constant_entropy(rate).item() == pytest.approx(expected, rel=1e-6)  # float32


def test_normalising_makes_steps_of_any_rate_count_the_same() -> None:
    rates = torch.tensor([0.5, 0.04, 2e-4])
    weights = build_loss_weights(LossConfig(normalise=True), rates.tolist())
    assert weights.combine(constant_entropy(rates)).item() == pytest.approx(3, rel=1e-6)  # float32


@pytest.mark.parametrize("rate", [0.0, 1.0, math.nan])
def test_a_step_of_one_class_is_not_normalised(rate: float) -> None:
    assert build_loss_weights(LossConfig(normalise=True), (rate,)).scale.tolist() == [1]


def test_combine_is_equation_3() -> None:
    """L1/(2σ1²) + L2/(2σ2²) + log σ1σ2, and Kendall's form for classification."""
    losses, sigma = torch.tensor([0.6, 0.03]), torch.tensor([0.7, -1.2]).div(2).exp()
    paper = losses[0] / (2 * sigma[0] ** 2) + losses[1] / (2 * sigma[1] ** 2) + torch.log(sigma[0] * sigma[1])
    kendall = losses[0] / sigma[0] ** 2 + losses[1] / sigma[1] ** 2 + torch.log(sigma[0] * sigma[1])
    expected: dict[Any, Tensor] = {"paper": paper, "kendall": kendall}
    for form, value in expected.items():
        weights = double_weights(LossConfig(weighting="uncertainty", form=form, normalise=False), (0.1, 0.1))
        assert weights.combine(losses).item() == pytest.approx(value.item(), rel=1e-6)  # float32
        weights = double_weights(LossConfig(weighting="uncertainty", form=form, normalise=True), (0.1, 0.01))
        entropy = constant_entropy(torch.tensor([0.1, 0.01]))
        assert weights.combine(losses * entropy).item() == pytest.approx(value.item(), rel=1e-6)


def test_weights_start_at_sigma_one() -> None:
    assert build_loss_weights(LossConfig(weighting="uncertainty"), (0.1, 0.2)).task_weights().tolist() == [0.5, 0.5]
    kendall = build_loss_weights(LossConfig(weighting="uncertainty", form="kendall"), (0.1, 0.2))
    assert kendall.task_weights().tolist() == [1, 1]


@pytest.mark.parametrize(("form", "factor"), [("paper", 1.0), ("kendall", 2.0)])
def test_the_optimum_of_sigma_squared_is_the_loss(form: Any, factor: float) -> None:
    """d/ds (L/2 · exp(-s) + s/2) = 0 at exp(s) = L; at 2L without the half. Either way the weight is 1/(2L)."""
    losses = torch.tensor([0.6, 0.03, 4e-3], dtype=torch.float64)
    weights = double_weights(LossConfig(weighting="uncertainty", form=form, normalise=False))
    (log_variance,) = weights.parameters()
    log_variance.data = torch.log(factor * losses)
    (gradient,) = torch.autograd.grad(weights.combine(losses), log_variance)
    torch.testing.assert_close(gradient, torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-15)  # 1/2 - 1/2, rounded
    torch.testing.assert_close(weights.task_weights().detach(), 1 / (2 * losses))


@pytest.mark.parametrize("form", ["paper", "kendall"])
def test_every_learnable_weight_moves_to_its_optimum(form: Any) -> None:
    """torch-rechub's never moved. 300 steps are a short run: an epoch of 600,000 rows."""
    config = LossConfig(weighting="uncertainty", form=form, normalise=False)
    weights, losses = build_loss_weights(config, (0.1, 0.2)), torch.tensor([0.9, 0.15])
    optimizer = torch.optim.Adam(weights.parameters(), lr=config.learning_rate)
    for _ in range(300):
        optimizer.zero_grad()
        torch.autograd.backward(weights.combine(losses))
        optimizer.step()
        weights.clamp_()
    # Adam overshoots: log σ² within five of its steps
    torch.testing.assert_close(weights.task_weights().detach(), 1 / (2 * losses), rtol=0.05, atol=0)


@pytest.mark.parametrize("clamp", [4.0, 0.5])
def test_the_clamp_limits_and_does_not_freeze(clamp: float) -> None:
    config = LossConfig(weighting="uncertainty", clamp=clamp, normalise=False)
    weights = build_loss_weights(config, (0.1,))
    (log_variance,) = weights.parameters()
    for loss, limit in ((1e-9, -clamp), (1e9, clamp), (1e-9, -clamp)):
        for _ in range(30):  # plain gradient steps, far over the limit and back from it
            (gradient,) = torch.autograd.grad(weights.combine(torch.tensor([loss])), log_variance)
            log_variance.data -= gradient.sign() * 0.5
            weights.clamp_()
        assert log_variance.item() == limit


def test_without_a_clamp_there_is_no_limit() -> None:
    weights = build_loss_weights(LossConfig(weighting="uncertainty", clamp=0), (0.1,))
    (log_variance,) = weights.parameters()
    log_variance.data.fill_(-9)
    weights.clamp_()
    assert log_variance.item() == -9


def test_fixed_weights_are_those_given_and_do_not_learn() -> None:
    weights = build_loss_weights(LossConfig(weighting="fixed", weights=(1, 0, 5), normalise=False), (0.1, 0.1, 0.1))
    assert list(weights.parameters()) == []
    assert weights.task_weights().tolist() == [1, 0, 5]
    assert weights.combine(torch.tensor([1.0, 2.0, 3.0])).item() == 16
    weights.clamp_()


def test_state_is_saved_whole() -> None:
    config = LossConfig(weighting="uncertainty")
    source, target = double_weights(config), build_loss_weights(config, (0.3, 0.3, 0.3)).double()
    target.load_state_dict(source.state_dict())
    losses = torch.tensor([0.5, 0.6, 0.7], dtype=torch.float64)
    assert torch.equal(target.combine(losses), source.combine(losses))


@pytest.mark.parametrize(("values", "message"), [
    ({"weighting": "uncertainty", "weights": [1, 1, 1]}, "weights need weighting = 'fixed'"),
    ({"clamp": 0}, "clamp is of learned weights, and these are fixed; set weighting = 'uncertainty'"),
    ({"weighting": "fixed", "weights": [0, 0]}, "weights are all 0"),
    ({"weighting": "fixed", "weights": [1, -1]}, "weights.1: -1 is not allowed: input should be greater than or equal"),
    ({"weighting": "uncertain"}, "did you mean 'uncertainty'"),
    ({"form": "papers"}, "did you mean 'paper'"),
    ({"clamp": -1}, "clamp: -1 is not allowed"),
    ({"learning_rate": 0}, "learning_rate: 0 is not allowed"),
    ({"positive_weight": 0}, "positive_weight: 0.0 is not above 0"),
    ({"positive_weight": [2, -3]}, "positive_weight: (2.0, -3.0) is not above 0"),
    ({"focal_gamma": -0.5}, "focal_gamma: -0.5 is not allowed"),
    ({"focal_gama": 2}, "did you mean 'focal_gamma'"),
])  # fmt: skip
def test_faults_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        LossConfig.from_dict(values)
    assert message in str(caught.value)
    assert len(caught.value.faults) == 1


def test_faults_that_show_beside_the_funnel() -> None:
    config = LossConfig(weighting="fixed", weights=(1, 2), positive_weight=(3,))
    assert [str(fault) for fault in config.check(FUNNEL, "training.loss")] == [
        "training.loss.weights: 2 values for 3 steps; give one for each of click, cart, buy",
        "training.loss.positive_weight: 1 value for 3 steps; give one for each of click, cart, buy",
    ]
    assert LossConfig(positive_weight=3.0).check(FUNNEL) == []
    assert LossConfig(weighting="fixed", weights=(1, 2, 3)).check(FUNNEL) == []
