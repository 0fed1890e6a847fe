"""Losses given the parent, corrected to stand for all rows: against loops from probabilities, and against the truth."""

import math
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from funnelcast.data.columns import UNOBSERVED
from funnelcast.models.base import LossSpace
from funnelcast.models.network import FunnelModel
from funnelcast.registry import recipe_of
from funnelcast.training.gradients import Gradients
from funnelcast.training.losses import LossConfig, build_loss_weights
from funnelcast.training.objective import Objective
from funnelcast.training.selection import Selected, effective_shares, selected_losses
from funnelcast.training.step import PlainStep, Trained
from tests.layers.inputs import INPUTS
from tests.training.test_step import FUNNEL, MODELS, READING, dense_parameters, drawn

PARENTS = (-1, 0, 1, 0)
"""A chain of three, and a branch."""
LARGEST = 2.0
IMPUTING = [[0.0, 0.3, -0.2, 0.1], [0.0, -0.5, 0.4, 0.2], [0.0, 0.1, -0.3, 0.25]]
CONFIGS = {
    "plain": LossConfig(),
    "ipw": LossConfig(correction="ipw", largest_weight=LARGEST),
    "doubly robust": LossConfig(correction="doubly_robust", largest_weight=LARGEST),
    "ipw, focal": LossConfig(correction="ipw", largest_weight=LARGEST, focal_gamma=1.5, positive_weight=2.0),
    "doubly robust, focal": LossConfig(
        correction="doubly_robust", largest_weight=LARGEST, focal_gamma=0.5, positive_weight=(1.0, 3.0, 2.0, 1.0)
    ),
}


def draw(rows: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    """Logits in float64, labels of which some are unobserved, weights of which some are 0."""
    rng = np.random.default_rng(0)
    tails = rng.integers(0, 2, (rows, 4))
    for t, parent in enumerate(PARENTS):
        tails[:, t] *= tails[:, parent] if parent >= 0 else 1
    tails[rng.random(tails.shape) < 0.1] = UNOBSERVED
    weight = torch.from_numpy(rng.integers(0, 3, rows).astype(np.float64))
    return torch.from_numpy(rng.normal(0, 1.5, (rows, 4))), torch.from_numpy(tails.astype(np.uint8)), weight


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def error(z: float, y: int, config: LossConfig, step: int) -> float:
    right = sigmoid(z) if y else 1 - sigmoid(z)
    positive = config.positive_weight or 1.0
    factor = (positive[step] if isinstance(positive, tuple) else positive) if y else 1.0
    return float(-factor * (1 - right) ** config.focal_gamma * math.log(right))


def slow(
    logits: Any, labels: Any, weight: Any, config: LossConfig, frozen: Any, imputing: Any = IMPUTING
) -> tuple[list[float], float]:
    """The docstring's formulas, row by row. `frozen`: logits that propensities and imputations are of."""
    losses, of_head = [], 0.0
    for t, parent in enumerate(PARENTS):
        known = [i for i in range(len(labels)) if labels[i][t if parent < 0 else parent] != UNOBSERVED]
        reached = [i for i in known if parent < 0 or labels[i][parent] == 1]
        seen = [i for i in reached if labels[i][t] != UNOBSERVED]
        of_known, of_reached, of_seen = (sum(weight[i] for i in rows) for rows in (known, reached, seen))
        share, loss = of_reached / of_known, 0.0
        for i in known:
            p, above = 1.0, parent
            while above >= 0:
                p *= sigmoid(frozen[i][above])
                above = PARENTS[above]
            p = max(p, share / LARGEST)
            w = share / p if config.correction != "none" and parent >= 0 else 1.0
            r = imputed = 0.0
            if config.correction == "doubly_robust" and parent >= 0:
                a, b, c = (row[t] for row in imputing)
                r = sigmoid((1 + a) * frozen[i][t] + b + c * math.log(p / (1 - p)))
                imputed = r * error(logits[i][t], 1, config, t) + (1 - r) * error(logits[i][t], 0, config, t)
                loss += weight[i] * imputed / of_known
            if i in seen:
                y = int(labels[i][t])
                loss += weight[i] * w * (error(logits[i][t], y, config, t) - imputed) / of_seen
                if config.correction == "doubly_robust" and parent >= 0:
                    of_head += weight[i] * w**2 * (1 - p) * (r - y) ** 2 / of_seen
        losses.append(loss)
    return losses, of_head


def run(logits: Tensor, labels: Tensor, weight: Tensor | None, config: LossConfig, imputing: Any = IMPUTING) -> Any:
    head = torch.tensor(imputing, dtype=torch.float64) if config.correction == "doubly_robust" else None
    whole = Selected.of(labels, weight, PARENTS)
    return selected_losses(logits, labels, weight, PARENTS, config, whole, config.factors(4), imputing=head)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("name", CONFIGS)
def test_losses_are_the_formulas(name: str, weighted: bool) -> None:
    (logits, labels, weight), config = draw(), CONFIGS[name]
    found, of_head = run(logits, labels, weight if weighted else None, config)
    arrays = labels.tolist(), weight.tolist() if weighted else [1.0] * len(labels)
    expected, of_head_expected = slow(logits.tolist(), *arrays, config, logits.tolist())
    tolerance = 1e-12 if weighted else 1e-6  # counts without weights are float32
    np.testing.assert_allclose(found, expected, rtol=tolerance)
    assert float(of_head or 0) == pytest.approx(of_head_expected, rel=tolerance)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_gradient_leads_neither_through_propensities_nor_through_what_is_imputed(name: str) -> None:
    """Central differences of the formulas with these held fixed; and of the imputation's loss by its numbers alone."""
    (logits, labels, weight), config = draw(12), CONFIGS[name]
    z, by_step = logits.clone().requires_grad_(), torch.tensor([1.0, 0.7, 1.3, 0.4], dtype=torch.float64)
    head = torch.tensor(IMPUTING, dtype=torch.float64).requires_grad_()
    is_robust = config.correction == "doubly_robust"
    whole = Selected.of(labels, weight, PARENTS)
    own, factors = head if is_robust else None, config.factors(4)
    found, of_head = selected_losses(z, labels, weight, PARENTS, config, whole, factors, imputing=own)
    (gradient,) = torch.autograd.grad(found @ by_step, z, retain_graph=True)
    arrays, h = (labels.tolist(), weight.tolist(), config), 1e-6
    for i in range(len(logits)):
        for t in range(4):
            ends = []
            for size in (h, -h):
                moved = logits.clone()
                moved[i, t] += size
                ends.append(np.dot(slow(moved.tolist(), *arrays, logits.tolist())[0], by_step.numpy()))
            assert float(gradient[i, t]) == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6, abs=1e-9)
    if of_head is not None:
        by_wrong = torch.autograd.grad(found.sum(), head, allow_unused=True, retain_graph=True)
        by_wrong += torch.autograd.grad(of_head, z, allow_unused=True, retain_graph=True)
        assert [grad is None for grad in by_wrong] == [True, True]
        (by_head,) = torch.autograd.grad(of_head, head)
        for place in ((0, 1), (1, 2), (2, 3)):
            ends = []
            for size in (h, -h):
                numbers = np.array(IMPUTING)
                numbers[place] += size
                ends.append(slow(logits.tolist(), *arrays, logits.tolist(), numbers.tolist())[1])
            assert float(by_head[place]) == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6)


def test_the_networks_own_prediction_imputes_nothing_that_ipw_has_not() -> None:
    """As the module says of r = σ(z); another r has another gradient."""
    logits, labels, weight = draw()
    z, gradients = logits.requires_grad_(), []
    for name, imputing in (("ipw", IMPUTING), ("doubly robust", [[0.0] * 4] * 3), ("doubly robust", IMPUTING)):
        found, _ = run(z, labels, weight, CONFIGS[name], imputing)
        gradients.append(torch.autograd.grad(found.sum(), z)[0])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-12, atol=1e-15)
    assert not torch.allclose(gradients[2], gradients[0], rtol=0.1)


@pytest.mark.parametrize("name", CONFIGS)
def test_derivatives_are_finite_at_extreme_logits_and_where_nobody_is_left(name: str) -> None:
    grid = torch.tensor([-1e4, -60.0, 0.0, 60.0, 1e4])
    z = torch.cartesian_prod(grid, grid, grid, grid).requires_grad_()
    for y in ((0, 0, 0, 0), (1, 0, 0, 1), (1, 1, 1, 0), (UNOBSERVED,) * 4):
        labels = torch.tensor(y, dtype=torch.uint8).expand(len(z), 4)
        head = torch.zeros(3, 4, requires_grad=True) if CONFIGS[name].correction == "doubly_robust" else None
        whole = Selected.of(labels, None, PARENTS)
        factors = CONFIGS[name].factors(4)
        losses, of_head = selected_losses(z, labels, None, PARENTS, CONFIGS[name], whole, factors, imputing=head)
        (first,) = torch.autograd.grad(losses.sum(), z, create_graph=True)
        assert losses.isfinite().all() and first.isfinite().all()
        assert of_head is None or head is None or torch.autograd.grad(of_head, head)[0].isfinite().all()


def not_at_random(rows: int = 400_000) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, y of a child that shows only where o = 1, o, and its true log odds: who would convert is seen more often."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=rows)
    seen = rng.random(rows) < 1 / (1 + np.exp(2 - 1.5 * x))
    y = rng.random(rows) < 1 / (1 + np.exp(1 - x))
    return tuple(torch.from_numpy(np.asarray(each, np.float64)) for each in (x, y, seen, 1.5 * x - 2))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("correction", "is_propensity_right", "is_imputation_right", "is_unbiased"),
    [
        ("none", True, True, False), ("ipw", True, True, True), ("ipw", False, True, False),
        ("doubly_robust", True, False, True), ("doubly_robust", False, True, True),
        ("doubly_robust", False, False, False),
    ],
)  # fmt: skip
def test_a_log_where_rows_are_seen_by_what_they_would_do(
    correction: Any, is_propensity_right: bool, is_imputation_right: bool, is_unbiased: bool
) -> None:
    """The loss over all rows, of labels that only the simulation knows, for a network that is wrong: z = x / 2."""
    x, y, seen, odds = not_at_random()
    z = x / 2
    labels = torch.stack([seen, seen * y], 1).to(torch.uint8)
    logits = torch.stack([odds if is_propensity_right else torch.zeros_like(x), z], 1)
    slope, shift = (1.0, -1.0) if is_imputation_right else (0.0, 0.8)  # σ(2 z - 1) is the process
    imputing = torch.tensor([[0.0, slope], [0.0, shift], [0.0, 0.0]], dtype=torch.float64)
    config = LossConfig(correction=correction, largest_weight=10 if correction == "none" else 1e6)
    whole = Selected.of(labels, None, (-1, 0))
    head = imputing if correction == "doubly_robust" else None
    found, _ = selected_losses(logits, labels, None, (-1, 0), config, whole, imputing=head)
    truth = torch.nn.functional.binary_cross_entropy_with_logits(z, y, reduction="none").mean()
    assert (abs(float(found[1] - truth)) < 0.01) == is_unbiased, (float(found[1]), float(truth))


NETWORKS: dict[str, dict[str, Any]] = {
    "both": {"loss_space": "both"},
    "ipw": {"loss_space": "given_parent"},
    "both, doubly robust": {"loss_space": "both"},
}


def network(name: str, kind: str, members: int = 1) -> tuple[FunnelModel, LossConfig]:
    settings = {key: value for key, value in {**READING, **MODELS[name]}.items() if key != "loss_space"}
    built = recipe_of({**settings, **NETWORKS[kind], "members": members}).build(INPUTS, FUNNEL)
    assert isinstance(built, FunnelModel)
    generator = torch.Generator().manual_seed(0)
    for parameter in built.parameters():
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator)
    correction: Any = {"both": "none", "ipw": "ipw"}.get(kind, "doubly_robust")
    beside = 0.3 if "both" in kind else 1.0
    return built.double(), LossConfig(
        correction=correction, weighting="uncertainty", normalise=True, given_parent_weight=beside
    )


def gradient(model: FunnelModel, config: LossConfig, micro_batch: int) -> Gradients:
    given = [0.0, 0.6, 0.5] if model.loss_space == "both" else None
    weights = build_loss_weights(config, (0.5, 0.3, 0.2), given).double()
    if weights.imputing is not None:
        weights.imputing.data = torch.tensor(IMPUTING, dtype=torch.float64)[:, :3]
    parameters = [*dense_parameters(model), *weights.parameters()]
    return PlainStep(Objective(model, weights, config), Trained(parameters, True), micro_batch)(drawn(), 5, None)


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("name", MODELS)
def test_microbatches_add_up_to_the_batch_in_every_network(name: str, kind: str) -> None:
    found, expected = (gradient(*network(name, kind), size) for size in (7, 4096))
    assert found.embedded is not None and expected.embedded is not None
    for mine, right in zip(found.parameters, expected.parameters, strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(found.embedded.flat, expected.embedded.flat, rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(found.losses, expected.losses)
    assert all(parameter.any() for parameter in expected.parameters)


def test_both_is_the_one_loss_and_a_part_of_the_other() -> None:
    """And is normalised by what constants would cost in the two."""
    losses, scales, spaces = {}, {}, get_args(LossSpace)
    for space in spaces:
        model, config = network("man", "both")
        model.loss_space = space
        losses[space] = gradient(model, config, 4096).losses
        given = [0.0, 0.6, 0.5] if space == "both" else None
        scales[space] = build_loss_weights(config, (0.5, 0.3, 0.2), given).scale
    part = 0.3 * losses["given_parent"] * torch.tensor([0, 1, 1])
    torch.testing.assert_close(losses["both"], losses["entire"] + part)
    h = [-p * math.log(p) - (1 - p) * math.log(1 - p) for p in (0.6, 0.5)]
    torch.testing.assert_close(scales["both"], scales["entire"] + 0.3 * torch.tensor([0.0, *h]))


@pytest.mark.parametrize("kind", NETWORKS)
def test_members_that_are_alike_have_the_loss_of_one(kind: str) -> None:
    one, config = network("shared bottom", kind)
    three, _ = network("shared bottom", kind, members=3)
    own = one.state_dict()
    for name, parameter in three.state_dict().items():
        source = own.get(name, own.get(name.replace("trunk.trunks.", "trunk.").replace("trunk.0.", "trunk."), None))
        source = source if source is not None else own["trunk." + name.split(".", 3)[-1]]
        parameter.copy_(source if source.shape == parameter.shape else torch.cat([source] * 3))
    torch.testing.assert_close(gradient(three, config, 16).losses, gradient(one, config, 16).losses)


@pytest.mark.parametrize("name", ["ipw", "doubly robust"])
def test_members_weigh_rows_by_what_they_predict_together(name: str) -> None:
    """The mean of their probabilities of the parent."""
    (logits, labels, _), config = draw(), CONFIGS[name]
    own, labels = logits.reshape(-1, 2), labels[:, :2]
    head = torch.tensor(IMPUTING, dtype=torch.float64)[:, :2] if name != "ipw" else None
    whole, twice = Selected.of(labels, None, (-1, 0)), labels.repeat_interleave(2, 0)
    found, _ = selected_losses(own, twice, None, (-1, 0), config, whole, None, 2, head)
    joint = torch.logit(torch.sigmoid(own[:, 0]).reshape(-1, 2).mean(1))
    alone = []
    for k in range(2):
        logits = torch.stack([joint, own[k::2, 1]], 1)
        alone.append(selected_losses(logits, labels, None, (-1, 0), config, whole, None, 1, head)[0][1])
    torch.testing.assert_close(found[1], (alone[0] + alone[1]) / 2)


def test_the_effective_sample_is_kishs() -> None:
    labels = np.array([[1, 0], [1, 1], [1, UNOBSERVED], [0, 0], [UNOBSERVED, 0], [1, 1]], np.uint8)
    p, weight = np.array([0.5, 0.8, 0.1, 0.2, 0.9, 0.01]), np.array([1, 2, 1, 3, 1, 1], np.float32)
    log_p = np.log(np.stack([p, p / 2], 1)).astype(np.float32)
    share = (1 + 2 + 1 + 1) / (1 + 2 + 1 + 3 + 1)
    w = np.array([1 / 0.5, 2 / 0.8, 1 / (share / 4)])
    expected = w.sum() ** 2 / (w**2).sum() / 3
    found = effective_shares(log_p, labels, weight, (-1, 0), 4.0)
    assert found[0] is None and found[1] == pytest.approx(expected, rel=1e-6)
    alike = np.log(np.full((6, 2), 0.3, np.float32))
    assert effective_shares(alike, labels, None, (-1, 0), 10.0)[1] == pytest.approx(1)
    assert effective_shares(alike, np.zeros((6, 2), np.uint8), None, (-1, 0), 10.0) == [None, None]
