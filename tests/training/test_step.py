"""One step's gradient against plain autograd over the whole batch, whatever the pieces and threads."""

from typing import Any

import pytest
import torch
from torch import Tensor

from funnelcast.data.batch import Batch
from funnelcast.data.columns import UNOBSERVED
from funnelcast.models.network import FunnelModel
from funnelcast.models.registry import recipe_of
from funnelcast.training.losses import LossConfig, LossWeights, build_loss_weights
from funnelcast.training.step import Gradients, PlainStep
from funnelcast.training.workers import threads
from tests import tiny

ROWS = 50
RATES = (0.4, 0.2)


def build(**changes: Any) -> tuple[FunnelModel, LossWeights]:
    """A model in float64 without dropout, and loss weights away from their start."""
    encoder = tiny.fitted_encoder()
    model = recipe_of({**tiny.MODEL, "tower_dropout": [], **changes}).build(encoder.inputs, encoder.schema.funnel)
    model.reset("xavier_uniform", torch.Generator().manual_seed(1))
    weights = build_loss_weights(LossConfig(), RATES).double()
    next(weights.parameters()).data = torch.tensor([0.5, -0.8], dtype=torch.float64)
    return model.double(), weights


def draw_batch(rows: int = ROWS) -> Batch:
    batch = Batch.of(tiny.encoded(tiny.draw_log(rows), tiny.fitted_encoder()))
    assert batch.weight is not None
    return Batch(batch.ids, batch.numeric.double(), batch.labels, batch.weight.double())


def run(
    model: FunnelModel, weights: LossWeights, batch: Batch, micro_batch: int = 16, workers: int = 1, **kind: Any
) -> Gradients:
    embedding = kind.get("train_embedding", True)
    parameters = [p for name, p in model.named_parameters() if not name.startswith("embedding.")]
    step = PlainStep(model, weights, LossConfig(), micro_batch, embedding, [*parameters, *weights.parameters()])
    with threads(workers) as pool:
        return step(batch, kind.get("seed", 5), pool)


def mean_losses(model: FunnelModel, x: Tensor, batch: Batch) -> Tensor:
    """(T,) by loops over the rows, from the model's probabilities."""
    assert batch.labels is not None and batch.weight is not None
    p = model.network(x).log_p.exp()
    means = []
    for t in range(2):
        rows = [i for i in range(len(batch)) if batch.labels[i, t] != UNOBSERVED]
        terms = [-batch.weight[i] * torch.log(p[i, t] if batch.labels[i, t] == 1 else 1 - p[i, t]) for i in rows]
        means.append(torch.stack(terms).sum() / batch.weight[rows].sum())
    return torch.stack(means)


def entropy(rate: float) -> Tensor:
    r = torch.tensor(rate, dtype=torch.float64)
    return -r * r.log() - (1 - r) * (1 - r).log()


@pytest.mark.parametrize("micro_batch", [1, 7, 16, ROWS, 4096])
def test_the_gradient_is_that_of_the_whole_batch(micro_batch: int) -> None:
    (model, weights), batch = build(), draw_batch()
    found = run(model, weights, batch, micro_batch)
    x = model.embedding(batch).detach().requires_grad_()
    losses = mean_losses(model, x, batch)
    (s,) = weights.parameters()
    combined = (torch.exp(-s) / 2 * losses / torch.stack([entropy(r) for r in RATES])).sum() + s.sum() / 2
    parameters = [p for name, p in model.named_parameters() if not name.startswith("embedding.")]
    *expected, embedded = torch.autograd.grad(combined, [*parameters, s, x])
    torch.testing.assert_close(found.losses, losses.detach(), rtol=1e-7, atol=0)  # scales are made in float32
    for mine, right in zip(found.parameters, expected, strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-6, atol=1e-9)
    assert found.embedded is not None
    torch.testing.assert_close(found.embedded, embedded, rtol=1e-6, atol=1e-9)


def same(a: Gradients, b: Gradients) -> bool:
    """Bit for bit."""
    assert a.embedded is not None and b.embedded is not None
    pairs = zip([a.losses, a.embedded, *a.parameters], [b.losses, b.embedded, *b.parameters], strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("name", ["man", "shared_bottom"])
def test_the_number_of_workers_changes_no_bit_with_dropout(name: str) -> None:
    changes: dict[str, Any] = {"name": name, "tower_dropout": [0.4, 0.5]}
    if name == "man":
        model, weights = build(**changes)
    else:
        encoder = tiny.fitted_encoder()
        model, weights = recipe_of(changes | {"tower": [6, 3]}).build(encoder.inputs, encoder.schema.funnel), build()[1]
        model.reset("normal", torch.Generator().manual_seed(0))
    model.float()
    batch = Batch.of(tiny.encoded(tiny.draw_log(ROWS), tiny.fitted_encoder()))
    alone = run(model, weights.float(), batch, 7)
    for workers in (1, 2, 3):
        for _ in range(3):
            assert same(run(model, weights, batch, 7, workers), alone)


def test_the_seed_decides_the_noise_and_every_piece_has_its_own() -> None:
    (model, weights), batch = build(tower_dropout=[0.4, 0.5]), draw_batch()
    assert same(run(model, weights, batch, seed=1), run(model, weights, batch, seed=1))
    assert not same(run(model, weights, batch, seed=1), run(model, weights, batch, seed=2))
    rows = batch.take(torch.arange(32) % 16)
    twice = run(model, weights, Batch(rows.ids, rows.numeric, rows.labels), micro_batch=16)
    assert twice.embedded is not None
    assert not torch.equal(twice.embedded[:16], twice.embedded[16:])


def test_a_frozen_embedding_has_no_gradient_and_changes_no_other() -> None:
    (model, weights), batch = build(), draw_batch()
    free, frozen = run(model, weights, batch), run(model, weights, batch, train_embedding=False)
    assert frozen.embedded is None
    assert all(torch.equal(a, b) for a, b in zip(free.parameters, frozen.parameters, strict=True))


def test_a_row_without_labels_or_weight_is_as_good_as_absent() -> None:
    (model, weights), batch = build(), draw_batch()
    assert batch.labels is not None and batch.weight is not None
    batch.labels[3], batch.weight[8] = UNOBSERVED, 0.0
    kept = torch.tensor([i for i in range(ROWS) if i not in (3, 8)])
    whole, without = run(model, weights, batch), run(model, weights, batch.take(kept))
    for a, b in zip(whole.parameters, without.parameters, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)
    assert whole.embedded is not None and without.embedded is not None
    torch.testing.assert_close(whole.embedded[kept], without.embedded, rtol=1e-10, atol=1e-14)
    assert not whole.embedded[[3, 8]].any()


def test_a_weight_of_two_is_a_row_given_twice() -> None:
    (model, weights), batch = build(), draw_batch()
    ones = torch.ones(ROWS, dtype=torch.float64)
    heavy = Batch(batch.ids, batch.numeric, batch.labels, ones.index_fill(0, torch.arange(10), 2.0))
    twice = batch.take(torch.cat([torch.arange(10), torch.arange(ROWS)]))
    twice = Batch(twice.ids, twice.numeric, twice.labels, torch.ones(ROWS + 10, dtype=torch.float64))
    for a, b in zip(run(model, weights, heavy).parameters, run(model, weights, twice).parameters, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)


def test_a_batch_that_observed_a_step_nowhere_still_has_a_gradient() -> None:
    (model, weights), batch = build(), draw_batch()
    assert batch.labels is not None
    batch.labels[:, 1] = UNOBSERVED
    found = run(model, weights, batch)
    assert found.losses[1] == 0
    assert all(torch.isfinite(g).all() for g in found.parameters)
