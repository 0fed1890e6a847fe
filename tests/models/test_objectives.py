"""What each recipe's training minimises, against the papers' formulas in plain numpy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from funnelcast.data.batch import Batch
from funnelcast.models.network import FunnelModel
from funnelcast.training.gradients import Gradients
from funnelcast.training.losses import LossConfig, build_loss_weights
from funnelcast.training.objective import Objective
from funnelcast.training.step import PlainStep, Trained
from tests.layers.reference import Floats
from tests.models.reference import FUNNELS, PLAIN, Reference, build, draw_batch, rows_of, small

CONFIG = LossConfig(weighting="fixed", normalise=False)


def labelled(rows: int, steps: int, *, weighted: bool = False) -> Batch:
    """Labels of a chain: each step of about half the rows that reached the one before."""
    batch, rng = draw_batch(rows), np.random.default_rng(0)
    labels = np.cumprod(rng.random((rows, steps)) < 0.7, axis=1).astype(np.uint8)
    weight = torch.from_numpy(rng.uniform(0, 3, rows)) if weighted else None
    return Batch(batch.ids, batch.numeric, torch.from_numpy(labels), weight)


def rising(settings: dict[str, Any], shape: str) -> FunnelModel:
    """A model that finds a first step unlikely, so that reach rises from it where the head lets it."""
    model = build(settings, FUNNELS[shape])
    with torch.no_grad():
        model.get_parameter("output.bias")[0] -= 2
    return model


def dense(model: FunnelModel) -> list[torch.nn.Parameter]:
    return [p for name, p in model.named_parameters() if not name.startswith("embedding.")]


def step(model: FunnelModel, batch: Batch) -> Gradients:
    """Of the losses' plain sum, in float64, by chunks of 4 rows."""
    weights = build_loss_weights(CONFIG, [0.5] * len(model.parents)).double()
    return PlainStep(Objective(model, weights, CONFIG), Trained(dense(model), True), 4)(batch, 0, None)


def gradient_along(model: FunnelModel, direction: list[Tensor], batch: Batch) -> float:
    return float(sum((g * d).sum() for g, d in zip(step(model, batch).parameters, direction, strict=True)))


def slope_by_hand(
    settings: dict[str, Any], shape: str, direction: list[Tensor], batch: Batch, loss: Callable[[Floats], float]
) -> float:
    """Of a formula of reach (B, T), by a central difference with the reference's own forward pass."""
    values = []
    for size in (1e-5, -1e-5):
        model = rising(settings, shape)
        with torch.no_grad():
            for parameter, d in zip(dense(model), direction, strict=True):
                parameter.add_(size * d)
        reference = Reference(settings, PLAIN, FUNNELS[shape], model)
        values.append(loss(np.array([reference.reach(row) for row in rows_of(batch, PLAIN)])))
    return (values[0] - values[1]) / 2e-5


def entropies(p: Floats, batch: Batch) -> float:
    """Σ_t CE(y_t, p(t)), each a weighted mean over all rows."""
    assert batch.labels is not None
    y, w = batch.labels.numpy(), np.ones(len(p)) if batch.weight is None else batch.weight.numpy()
    total = 0.0
    for t in range(y.shape[1]):
        rows = [-w[i] * np.log(p[i, t] if y[i, t] else 1 - p[i, t]) for i in range(len(p))]
        total += sum(rows) / w.sum()
    return float(total)


def rise(p: Floats, batch: Batch, parents: tuple[int, ...]) -> float:
    """Weighted mean over rows of Σ_t max(p(t) - p(parent), 0)."""
    w = np.ones(len(p)) if batch.weight is None else batch.weight.numpy()
    total = 0.0
    for i in range(len(p)):
        for t, parent in enumerate(parents):
            total += w[i] * max(p[i, t] - p[i, parent], 0.0) if parent >= 0 else 0.0
    return float(total / w.sum())


def directions(settings: dict[str, Any], shape: str) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in dense(rising(settings, shape))]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", ["chain", "tree"])
@pytest.mark.parametrize("name", ["aitm", "esmm", "man", "mmoe", "single_task"])
def test_the_loss_is_the_papers(name: str, shape: str, weighted: bool) -> None:
    """Σ_t CE(y_t, p(t)) over the entire space, in ESMM and MAN with p a product; AITM adds its calibrator."""
    settings = small(name, **({"calibrator": 0.9} if name == "aitm" else {}))
    parents = FUNNELS[shape].parents
    batch, direction = labelled(10, len(parents), weighted=weighted), directions(settings, shape)

    def loss(p: Floats) -> float:
        return entropies(p, batch) + (0.9 * rise(p, batch, parents) if name == "aitm" else 0.0)

    model = rising(settings, shape)
    assert name != "aitm" or rise(model(batch).log_p.exp().detach().numpy(), batch, parents) > 0.1
    found = gradient_along(model, direction, batch)
    assert found == pytest.approx(slope_by_hand(settings, shape, direction, batch, loss), rel=1e-6)


def test_the_calibrator_weighs_by_its_setting_and_counts_edges_of_reach_alone() -> None:
    """Knowledge alone flows along a declared edge: the steps are parallel labels, and none comes before the other."""
    for shape, counts in (("tree", True), ("parallel", False)):
        batch = labelled(10, len(FUNNELS[shape].parents))
        grads = [step(rising(small("aitm", calibrator=c), shape), batch).parameters for c in (0.0, 0.5, 1.0)]
        halves = [(none, half, one) for none, half, one in zip(*grads, strict=True)]
        assert any(not torch.equal(none, one) for none, _, one in halves) == counts
        for none, half, one in halves:
            torch.testing.assert_close(half, (none + one) / 2)


def test_where_nothing_rises_the_calibrator_costs_nothing() -> None:
    model = build(small("aitm"), FUNNELS["chain"])
    with torch.no_grad():
        model.get_parameter("output.bias").copy_(torch.tensor([[30.0], [-30.0]]))
    without = build(small("aitm", calibrator=0.0), FUNNELS["chain"])
    without.load_state_dict(model.state_dict())
    for found, expected in zip(
        step(model, labelled(6, 2)).parameters, step(without, labelled(6, 2)).parameters, strict=True
    ):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("name", ["esmm", "man", "aitm"])
def test_rows_without_a_click_train_the_conversion(name: str) -> None:
    """pCVR is learned over the entire space, where the conversion label says that none followed."""
    batch, model = draw_batch(8), build(small(name), FUNNELS["chain"])
    batch = Batch(batch.ids, batch.numeric, torch.zeros(8, 2, dtype=torch.uint8))
    names = [parameter for parameter, _ in model.named_parameters() if not parameter.startswith("embedding.")]
    gradients = dict(zip(names, step(model, batch).parameters, strict=True))
    assert gradients["output.weight"][1].any()


@pytest.mark.parametrize("name", ["single_task", "man", "mmoe"])
def test_given_the_parent_a_step_is_trained_on_the_rows_that_reached_it(name: str) -> None:
    """The mean over clicks of CE(conversion, pCVR), plus that of click over all rows."""
    settings = small(name, loss_space="given_parent")
    batch, direction = labelled(12, 2), directions(settings, "chain")
    assert batch.labels is not None
    y = batch.labels.numpy()

    def loss(p: Floats) -> float:
        clicked = [i for i in range(len(y)) if y[i, 0]]
        given = [p[i, 1] / p[i, 0] for i in clicked]
        click = np.mean([-np.log(p[i, 0] if y[i, 0] else 1 - p[i, 0]) for i in range(len(y))])
        return float(click + np.mean([-np.log(q if y[i, 1] else 1 - q) for i, q in zip(clicked, given, strict=True)]))

    found = gradient_along(rising(settings, "chain"), direction, batch)
    assert found == pytest.approx(slope_by_hand(settings, "chain", direction, batch, loss), rel=1e-6)
