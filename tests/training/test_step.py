"""One step's gradient against plain autograd over the whole batch, whatever the microbatches and threads."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from funnelcast.data.batch import Batch
from funnelcast.data.columns import UNOBSERVED
from funnelcast.layers.embedding import Embedded
from funnelcast.models.network import FunnelModel
from funnelcast.models.penalties import RiseAlongEdges
from funnelcast.registry import recipe_of
from funnelcast.runtime.threads import worker_pool
from funnelcast.schema.funnel import Funnel
from funnelcast.training.gradients import Gradients
from funnelcast.training.losses import LossConfig, LossWeights, build_loss_weights
from funnelcast.training.objective import Objective
from funnelcast.training.optimizers import Optimizer, OptimizerConfig
from funnelcast.training.row_gradients import Reading, row_gradients, spans_of
from funnelcast.training.step import PlainStep, Trained
from tests.layers.inputs import INPUTS, draw_batch, source
from tests.layers.reference import randomise

ROWS = 32
RATES = (0.5, 0.3, 0.2)
LEARNED = LossConfig(weighting="uncertainty", normalise=True)
FUNNEL = Funnel.parse("click; conversion after click; like after click")
READING: dict[str, Any] = {
    "embedding_dim": 2,
    "embedding_dims": {"items": 3, "ages": 1, "shops": 4},
    "pooling": {
        "seen": "sum",
        "history": {"kind": "target_attention", "field": "last", "hidden": [3], "positions": True},
        "visited": {"kind": "transformer", "hidden": 3},
    },
}
"""One list is added up, one averaged by weight, two sequences are pooled with parameters of their own."""
TOWERS: dict[str, Any] = {"tower": [8, 6], "tower_dropout": []}
MODELS: dict[str, dict[str, Any]] = {
    "man": {"name": "man", "expert": [5, 4], "experts_per_step": 1, "shared_experts": 1, **TOWERS},
    "ple": {"name": "ple", "expert": [5], "experts_per_step": 1, "shared_experts": 1, "levels": 2, **TOWERS},
    "shared bottom": {"name": "shared_bottom", "expert": [5, 4], **TOWERS},
    "aitm": {"name": "aitm", "calibrator": 5.0, **TOWERS},
    "single task": {"name": "single_task", "expert": [5, 4], "loss_space": "given_parent", **TOWERS},
    "man given the parent": {"name": "man", "expert": [4], "loss_space": "given_parent", **TOWERS},
}


def build(model: str = "man", config: LossConfig | None = None, **changes: Any) -> tuple[FunnelModel, LossWeights]:
    """A model in float64 without dropout, and loss weights away from their start."""
    built = recipe_of({**READING, **MODELS[model], **changes}).build(INPUTS, FUNNEL)
    assert isinstance(built, FunnelModel)
    randomise(built, scale=0.6)
    weights = build_loss_weights(config or LEARNED, RATES).double()
    for log_variance in weights.parameters():
        log_variance.data = torch.tensor([0.5, -0.8, 0.3], dtype=torch.float64)
    return built.double(), weights


def drawn(rows: int = ROWS, dtype: torch.dtype = torch.float64) -> Batch:
    """A seventh of the labels unobserved, a quarter of the weights 0."""
    generator = source(3)
    labels = torch.rand(rows, 3, generator=generator) < 0.6
    labels[:, 1:] &= labels[:, :1]
    unseen = torch.rand(rows, 3, generator=generator) < 0.15
    weight = torch.randint(4, (rows,), generator=generator).to(dtype)
    return replace(draw_batch(rows, dtype=dtype), labels=labels.byte().masked_fill(unseen, UNOBSERVED), weight=weight)


def dense_parameters(model: FunnelModel) -> list[Tensor]:
    return [p for name, p in model.named_parameters() if not name.startswith("embedding.")]


def sequences_of(model: FunnelModel) -> list[str]:
    """Names of the lists in `Embedded.sequences`."""
    return [name for table in model.embedding.all_tables() for name in table.attended]


def run(
    model: FunnelModel, weights: LossWeights, batch: Batch, micro_batch: int = 16, workers: int = 1, **kind: Any
) -> Gradients:
    parameters: list[Any] = [*dense_parameters(model), *weights.parameters()]
    config, embedding = kind.get("config", LEARNED), kind.get("train_embedding", True)
    step = PlainStep(
        Objective(model, weights, config), Trained(parameters, embedding), micro_batch, kind.get("at_once"), workers
    )
    with worker_pool(workers) as pool:
        return step(batch, kind.get("seed", 5), pool)


def counted(batch: Batch, step: int, given: bool) -> list[int]:
    """Rows whose label of a step counts: observed, and given the parent, reached by it."""
    assert batch.labels is not None
    rows, parent = range(len(batch)), FUNNEL.parents[step]
    seen = [i for i in rows if batch.labels[i, step] != UNOBSERVED]
    return [i for i in seen if not given or parent < 0 or batch.labels[i, parent] == 1]


def losses_by_hand(model: FunnelModel, x: Embedded, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Mean losses (T,) and the rows' weights (T,), by loops from probabilities; and the calibrator's penalty."""
    assert batch.labels is not None
    is_given = model.loss_space == "given_parent"
    p = model.logits(x).sigmoid() if is_given else model.network(x).log_p.exp()
    weight, means, totals = torch.ones(len(batch)).double() if batch.weight is None else batch.weight, [], []
    for t in range(3):
        rows = counted(batch, t, is_given)
        terms = [-weight[i] * torch.log(p[i, t] if batch.labels[i, t] == 1 else 1 - p[i, t]) for i in rows]
        means.append(torch.stack(terms).sum() / weight[rows].sum())
        totals.append(weight[rows].sum())
    rises = [
        weight[i] * (p[i, t] - p[i, parent]).clamp(min=0)
        for i in range(len(batch))
        for t, parent in enumerate(FUNNEL.parents)
        if parent >= 0
    ]
    factors = [each.factor for each in model.penalties if isinstance(each, RiseAlongEdges)]
    return torch.stack(means), torch.stack(totals), sum(factors) * torch.stack(rises).sum() / weight.sum()


def entropy(rate: float) -> Tensor:
    r = torch.tensor(rate, dtype=torch.float64)
    return -r * r.log() - (1 - r) * (1 - r).log()


def combine(losses: Tensor, penalty: Tensor, s: Tensor) -> Tensor:
    return (torch.exp(-s) / 2 * losses / torch.stack([entropy(r) for r in RATES])).sum() + s.sum() / 2 + penalty


CASES = [(model, micro_batch) for model in MODELS for micro_batch in (7, 4096)]


@pytest.mark.parametrize(("name", "micro_batch"), [*CASES, ("man", 1), ("man", 16), ("man", ROWS)])
def test_the_gradient_is_that_of_the_whole_batch(name: str, micro_batch: int) -> None:
    """Of every parameter, and of every number of the embedded batch; of each row of the tables too."""
    (model, weights), batch = build(name), drawn()
    found = run(model, weights, batch, micro_batch)
    (s,) = weights.parameters()
    x = model.embedding(batch)
    losses, totals, penalty = losses_by_hand(model, x, batch)
    tables = [table.weight for table in model.embedding.all_tables()]
    targets = [*dense_parameters(model), s, *x.tensors(), *tables]
    expected = torch.autograd.grad(combine(losses, penalty, s), targets)
    assert (penalty > 0.01) == (name == "aitm") and len(x.sequences) == 2 and found.embedded is not None
    torch.testing.assert_close(found.losses, losses.detach(), rtol=1e-7, atol=0)  # scales are made in float32
    torch.testing.assert_close(found.weights, totals)
    spans = spans_of(model.embedding.all_tables())
    rows = [row_gradients(span, Reading.of(span, batch), [found.embedded]) for span in spans]
    dense = [torch.zeros_like(t).index_copy_(0, at.long(), g) for t, (at, g) in zip(tables, rows, strict=True)]
    for mine, right in zip([*found.parameters, *found.embedded.tensors(), *dense], expected, strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["man", "aitm", "single task"])
def test_rows_without_weights_weigh_one(name: str) -> None:
    (model, weights), batch = build(name), replace(drawn(), weight=None)
    found, x = run(model, weights, batch, 7), model.embedding(batch).leaves(trained=True)
    losses, totals, penalty = losses_by_hand(model, x, batch)
    (s,) = weights.parameters()
    expected = torch.autograd.grad(combine(losses, penalty, s), [*dense_parameters(model), s])
    torch.testing.assert_close(found.losses, losses.detach(), rtol=1e-7, atol=0)
    torch.testing.assert_close(found.weights.double(), totals)
    for mine, right in zip(found.parameters, expected, strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-6, atol=1e-7)


def same(a: Gradients, b: Gradients) -> bool:
    """Bit for bit."""
    return all(torch.equal(x, y) for x, y in zip(tensors_of(a), tensors_of(b), strict=True))


def tensors_of(found: Gradients) -> list[Tensor]:
    assert found.embedded is not None
    return [found.losses, *found.parameters, *found.embedded.tensors()]


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("name", ["man", "shared bottom", "ple", "aitm"])
def test_the_number_of_workers_changes_the_order_of_sums_alone(name: str, dtype: torch.dtype, tolerance: float) -> None:
    """With dropout, in lists too: one worker takes two micro-batches at once."""
    pooling = {**READING["pooling"], "visited": {"kind": "transformer", "hidden": 3, "dropout": 0.3}}
    (model, weights), batch = build(name, tower_dropout=[0.4, 0.5], pooling=pooling), drawn(dtype=dtype)
    model, weights = model.to(dtype), weights.to(dtype)
    alone, one_by_one = run(model, weights, batch, 7), run(model, weights, batch, 7, workers=ROWS)
    for ours, theirs in zip(tensors_of(alone), tensors_of(one_by_one), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    assert same(run(model, weights, batch, 7, workers=3), run(model, weights, batch, 7, workers=3))
    for workers in (1, 2, 3):
        assert same(run(model, weights, batch, 7, workers, at_once=1), one_by_one)


@pytest.mark.parametrize("name", ["man", "ple", "shared bottom", "aitm"])
def test_vectors_that_repeat_are_multiplied_once(name: str) -> None:
    """In float32, where one row of each code has the gradient of all that have it: sums by id are the same."""
    wide: dict[str, Any] = {"tower": [64, 8]} if name == "aitm" else {"expert": [64, 8]}
    (model, weights), batch = build(name, **wide), drawn()
    expected = run(model, weights, batch)
    found = run(model.float(), weights.float(), drawn(dtype=torch.float32))
    assert found.embedded is not None and expected.embedded is not None
    assert not torch.allclose(found.embedded.flat.double(), expected.embedded.flat, rtol=0.1)
    spans = spans_of(model.embedding.all_tables())
    pairs = list(zip([found.losses, *found.parameters], [expected.losses, *expected.parameters], strict=True))
    pairs += [
        (
            row_gradients(s, Reading.of(s, batch), [found.embedded])[1],
            row_gradients(s, Reading.of(s, batch), [expected.embedded])[1],
        )
        for s in spans
    ]
    for mine, right in pairs:
        torch.testing.assert_close(mine.double(), right.double(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("at_once", "workers", "rows", "expected"),
    [
        (None, 1, 2048, 2048),
        (None, 2, 2048, 1024),
        (None, 1, 5000, 2048),
        (None, 2, 3000, 2048),
        (None, 1, 700, 1024),
        (1, 1, 2048, 1024),
        (3, 2, 8192, 3072),
    ],
)
def test_how_many_rows_go_through_the_network_together(at_once: Any, workers: int, rows: int, expected: int) -> None:
    model, weights = build("shared bottom")
    step = PlainStep(Objective(model, weights, LEARNED), Trained([], False), 1024, at_once, workers)
    assert step.rows_at_once(rows) == expected


def test_the_seed_decides_dropout_and_every_microbatch_has_a_mask_of_its_own() -> None:
    (model, weights), batch = build(tower_dropout=[0.4, 0.5]), drawn()
    assert same(run(model, weights, batch, seed=1), run(model, weights, batch, seed=1))
    assert not same(run(model, weights, batch, seed=1), run(model, weights, batch, seed=2))
    twice = run(model, weights, replace(batch.take(torch.arange(32) % 16), weight=None), micro_batch=16)
    assert twice.embedded is not None
    assert not torch.equal(twice.embedded.flat[:16], twice.embedded.flat[16:])


def test_an_embedding_that_is_not_trained_has_no_gradient_and_changes_no_other() -> None:
    (model, weights), batch = build(), drawn()
    free, frozen = run(model, weights, batch), run(model, weights, batch, train_embedding=False)
    assert frozen.embedded is None
    assert all(torch.equal(a, b) for a, b in zip(free.parameters, frozen.parameters, strict=True))


@pytest.mark.parametrize("name", ["man", "aitm"])
def test_a_row_without_weight_is_as_good_as_absent_and_so_is_one_without_labels(name: str) -> None:
    """The calibrator, which asks for no label, still reads the latter."""
    (model, weights), batch = build(name), drawn()
    assert batch.labels is not None and batch.weight is not None
    batch.weight[8] = 0.0
    absent = [8] if name == "aitm" else [3, 8]
    batch.labels[absent] = UNOBSERVED
    kept = torch.tensor([i for i in range(ROWS) if i not in absent])
    whole, without = run(model, weights, batch), run(model, weights, batch.take(kept))
    for a, b in zip(whole.parameters, without.parameters, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)
    assert whole.embedded is not None and without.embedded is not None
    torch.testing.assert_close(whole.embedded.flat[kept], without.embedded.flat, rtol=1e-10, atol=1e-14)
    assert not whole.embedded.flat[absent].any()
    for row in absent:
        for feature, elements in zip(sequences_of(model), whole.embedded.sequences, strict=True):
            offsets = batch.lists[feature].offsets
            assert not elements.vectors[offsets[row] : offsets[row + 1]].any()


@pytest.mark.parametrize("name", ["man", "aitm", "single task"])
def test_a_weight_of_two_is_a_row_given_twice(name: str) -> None:
    (model, weights), batch = build(name), drawn()
    ones = torch.ones(ROWS, dtype=torch.float64)
    heavy = replace(batch, weight=ones.index_fill(0, torch.arange(10), 2.0))
    twice = replace(batch, weight=ones).take(torch.cat([torch.arange(10), torch.arange(ROWS)]))
    for a, b in zip(run(model, weights, heavy).parameters, run(model, weights, twice).parameters, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", ["man", "aitm", "single task"])
def test_the_gradient_does_not_grow_with_the_batch(name: str) -> None:
    """AITM's own code summed its penalty over the batch."""
    (model, weights), batch = build(name), drawn()
    once, thrice = run(model, weights, batch), run(model, weights, batch.take(torch.arange(3 * ROWS) % ROWS))
    torch.testing.assert_close(thrice.losses, once.losses, rtol=1e-12, atol=0)
    for a, b in zip(once.parameters, thrice.parameters, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", ["single task", "man given the parent"])
def test_a_row_that_did_not_reach_the_parent_teaches_the_child_nothing(name: str) -> None:
    """With the first step's loss left out, no number of such a row has a gradient."""
    config = LossConfig(weighting="fixed", weights=(0, 1, 1))
    (model, weights), batch = build(name, config), replace(drawn(), weight=None)
    found = run(model, weights, batch, config=config).embedded
    assert found is not None
    taught = {row for step in (1, 2) for row in counted(batch, step, given=True)}
    assert batch.labels is not None and 0 < len(taught) <= int((batch.labels[:, 0] == 1).sum())
    reached = set(found.flat.any(1).nonzero().flatten().tolist())
    assert reached <= taught and len(reached) > 0.9 * len(taught)  # what passes no ReLU teaches nothing either
    for feature, elements in zip(sequences_of(model), found.sequences, strict=True):
        offsets = batch.lists[feature].offsets.tolist()
        reached = {i for i in range(ROWS) if elements.vectors[offsets[i] : offsets[i + 1]].any()}
        assert reached <= taught and len(reached) > len(taught) / 3


@pytest.mark.parametrize("name", ["man", "aitm", "single task"])
def test_a_batch_that_observed_a_step_nowhere_still_has_a_gradient(name: str) -> None:
    (model, weights), batch = build(name), drawn()
    assert batch.labels is not None
    batch.labels[:, 1] = UNOBSERVED
    found = run(model, weights, batch)
    assert found.losses[1] == 0
    assert all(torch.isfinite(g).all() for g in found.parameters)


@pytest.mark.parametrize("name", ["man", "aitm"])
def test_a_batch_without_any_weight_or_any_element(name: str) -> None:
    (model, weights), batch = build(name), drawn()
    assert batch.weight is not None
    empty = {name: x.take(torch.zeros(0, dtype=torch.int64)) for name, x in batch.lists.items()}
    none = {name: replace(x, offsets=torch.zeros(ROWS + 1, dtype=torch.int64)) for name, x in empty.items()}
    weightless = replace(batch, weight=torch.zeros_like(batch.weight), lists=none)
    taught = []
    for found in (run(model, weights, replace(batch, lists=none)), run(model, weights, weightless)):
        assert found.embedded is not None
        assert all(torch.isfinite(g).all() for g in [*found.parameters, *found.embedded.tensors()])
        assert [len(each.vectors) for each in found.embedded.sequences] == [0, 0]
        taught.append((bool(found.losses.any()), bool(found.embedded.flat.any())))
    assert taught == [(True, True), (False, False)]


@pytest.mark.parametrize("embedding", [True, False])
def test_ids_without_embeddings_are_trained_on_like_numbers(embedding: bool) -> None:
    widths: dict[str, Any] = {"embedding_dim": 5, "embedding_dims": {}}  # the defaults, as others would have no effect
    (model, weights), batch = build("shared bottom", embedding="none", hashed_width=7, pooling={}, **widths), drawn()
    found = run(model, weights, batch, 7, train_embedding=embedding)
    losses, _, penalty = losses_by_hand(model, model.embedding(batch), batch)
    (s,) = weights.parameters()
    expected = torch.autograd.grad(combine(losses, penalty, s), [*dense_parameters(model), s])
    for mine, right in zip(found.parameters, expected, strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-6, atol=1e-7)
    assert spans_of(model.embedding.all_tables()) == [] and (found.embedded is not None) == embedding


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_batch_reads_is_told_by_its_ids(workers: int) -> None:
    """By a thread that is done with its microbatch."""
    (model, weights), batch = build(), drawn()
    optimizer = Optimizer(OptimizerConfig(), {}, {}, 0.1, model.embedding.all_tables())
    step = PlainStep(Objective(model, weights, LEARNED), Trained([], True), 16, 1, workers, reads=optimizer.reads)
    with worker_pool(workers) as pool:
        found = step(batch, 0, pool)
    assert found.readings is not None and run(model, weights, batch).readings is None
    for mine, right in zip(found.readings, optimizer.reads(batch), strict=True):
        assert torch.equal(mine.rows, right.rows) and torch.equal(mine.inverse, right.inverse)
