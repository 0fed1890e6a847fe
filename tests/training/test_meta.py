"""The outer gradient against finite differences of the meta-objective, which is written here a second, slow way."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from funnelcast.data.batch import Batch
from funnelcast.data.episodes import TaskBatch
from funnelcast.layers.embedding import Embedded
from funnelcast.runtime.threads import worker_pool
from funnelcast.training.algorithms import Inner
from funnelcast.training.gradients import Gradients
from funnelcast.training.meta import MetaStep
from funnelcast.training.objective import BatchTotals, Microbatch, Objective
from funnelcast.training.optimizers import Optimizer, OptimizerConfig
from funnelcast.training.row_gradients import Reading, row_gradients, spans_of
from funnelcast.training.step import Trained
from tests.pairs import pairwise
from tests.training.test_step import LEARNED, MODELS, build, drawn

SIZES = ((5, 9), (8, 10))
RATE = 0.3


@pytest.fixture(autouse=True)
def smooth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finite differences need an activation without kinks."""
    monkeypatch.setattr(Tensor, "relu", lambda x: torch.nn.functional.softplus(4 * x) / 4)
    monkeypatch.setattr(torch.nn.functional, "leaky_relu", lambda x, slope: slope * x + (1 - slope) * x.relu())


def objective_of(model: str = "man", **changes: Any) -> Objective:
    return Objective(*build(model, **changes), LEARNED)


def meta_step(
    objective: Objective,
    config: Inner,
    rates: Sequence[Tensor] = (),
    *,
    embedding: bool = True,
    workers: int = 1,
) -> MetaStep:
    parameters = {n: p for n, p in objective.named_parameters() if not n.startswith("model.embedding.")}
    adapted = dict(adapted_of(objective, config))
    trained = Trained(list(parameters.values()), embedding)
    return MetaStep.of(objective, trained, config, adapted, rates, 4, workers)


def adapted_of(objective: Objective, config: Inner) -> list[tuple[str, Tensor]]:
    names = [f"model.{name}" for name in objective.model.groups(config.groups)]
    names += [f"loss_weights.{n}" for n, _ in objective.loss_weights.named_parameters()] * config.adapt_loss_weights
    return [(name, p) for name, p in objective.named_parameters() if name in names]


def microbatch(objective: Objective, batch: Batch, x: Embedded) -> Microbatch:
    batch = objective.labelled(batch)
    assert batch.labels is not None
    return Microbatch(x, batch.labels, batch.weight, BatchTotals.of(batch))


def loss(objective: Objective, batch: Batch, x: Embedded, values: dict[str, Tensor]) -> Tensor:
    _, combined = functional_call(objective, values, (microbatch(objective, batch, x),))
    assert isinstance(combined, Tensor)
    return combined


def meta_objective(objective: Objective, batch: TaskBatch, x: Embedded, config: Inner, rates: list[Tensor]) -> Tensor:
    """Mean over tasks of the query loss after plain gradient steps on the support, as a function of everything."""
    total, start = torch.zeros((), dtype=torch.float64), 0
    for (support, query), (support_rows, query_rows) in zip(batch.sizes, batch.tasks(), strict=True):
        values = dict[str, Tensor](objective.named_parameters())
        x_known, x_query = x.slice(start, start + support), x.slice(start + support, start + support + query)
        total = total + config.support_loss * loss(objective, support_rows, x_known, values)
        for _ in range(config.steps):
            names = [name for name, _ in adapted_of(objective, config)]
            grads = torch.autograd.grad(
                loss(objective, support_rows, x_known, values),
                [values[n] for n in names],
                create_graph=True,
                allow_unused=True,
            )
            for i, (name, grad) in enumerate(zip(names, grads, strict=True)):
                step = config.learning_rate * (torch.zeros_like(values[name]) if grad is None else grad)
                values[name] = values[name] - (step * rates[i] if rates else step)
        total = total + loss(objective, query_rows, x_query, values)
        start += support + query
    return total / len(batch.sizes)


def difference(
    objective: Objective, batch: TaskBatch, x: Embedded, config: Inner, rates: list[Tensor], seed: int
) -> Tensor:
    """The derivative of the meta-objective in a random direction of all trained tensors, by central differences."""
    parameters = [p for n, p in objective.named_parameters() if not n.startswith("model.embedding.")]
    leaves, values = [*parameters, *rates, *x.tensors()], []
    for epsilon in (1e-6, -1e-6):
        with torch.no_grad():
            before = [leaf.clone() for leaf in leaves]
            for i, leaf in enumerate(leaves):
                leaf.add_(direction_of(seed + i, leaf), alpha=epsilon)
        values.append(meta_objective(objective, batch, x, config, rates).detach())
        with torch.no_grad():
            for leaf, old in zip(leaves, before, strict=True):
                leaf.copy_(old)
    return (values[0] - values[1]) / 2e-6


def direction_of(i: int, like: Tensor) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(i), dtype=like.dtype)


def task_batch() -> TaskBatch:
    return TaskBatch(drawn(sum(map(sum, SIZES))), SIZES)


CONFIGS: dict[str, dict[str, Any]] = {
    "one step": {},
    "two steps": {"steps": 2},
    "top": {"inner": "top"},
    "top, three steps": {"inner": "top", "steps": 3},
    "towers": {"inner": ("towers",)},
    "experts": {"inner": ("experts",), "steps": 2},
    "learned": {"learned": True},
    "learned, two steps": {"learned": True, "steps": 2, "inner": "top"},
    "loss weights": {"adapt_loss_weights": True, "steps": 2},
    "with the support's loss": {"support_loss": 0.7, "inner": "top"},
}


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_the_outer_gradient_is_that_of_finite_differences(config: dict[str, Any]) -> None:
    check(objective_of(), Inner(learning_rate=RATE, **config))


@pytest.mark.slow
@pytest.mark.parametrize("inner", ["all", "top"])
@pytest.mark.parametrize("model", MODELS)
def test_for_every_kind_of_network(model: str, inner: Any) -> None:
    check(objective_of(model), Inner(learning_rate=RATE, inner=inner))


def check(objective: Objective, config: Inner) -> None:
    batch = task_batch()
    rates = [
        1 + 0.3 * direction_of(50 + i, p) for i, (_, p) in enumerate(adapted_of(objective, config))
    ] * config.learned
    with torch.no_grad():
        x = objective.model.embedding(batch.batch)
    found = meta_step(objective, config, rates)(batch, 3, None)
    assert found.embedded is not None
    grads = [*found.parameters, *found.embedded.tensors()]
    for seed in (0, 1000):
        expected = difference(objective, batch, x, config, rates, seed)
        mine = torch.stack([(g * direction_of(seed + i, g)).sum() for i, g in enumerate(grads)]).sum()
        torch.testing.assert_close(mine, expected, rtol=1e-6, atol=1e-8)


def grads_of(objective: Objective, batch: Batch, x: Embedded, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of the plain loss, by every parameter and by the embedded rows, by autograd alone."""
    leaves = {name: value.detach().requires_grad_() for name, value in values.items()}
    rows = x.leaves(trained=True)
    names = [name for name in leaves if not name.startswith("model.embedding.")]
    found = torch.autograd.grad(
        loss(objective, batch, rows, leaves), [*(leaves[n] for n in names), *rows.tensors()], allow_unused=True,
        materialize_grads=True,
    )  # fmt: skip
    return dict(zip([*names, *(f"row {i}" for i in range(len(rows.tensors())))], found, strict=True))


def moved(values: dict[str, Tensor], grads: dict[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    return {n: v - RATE * grads[n] if n in names else v for n, v in values.items()}


def support_and_query(batch: TaskBatch, x: Embedded) -> list[list[tuple[Batch, Embedded]]]:
    """Support and query of each task, with their embedded rows."""
    ends, found = 0, []
    for sizes, task in zip(batch.sizes, batch.tasks(), strict=True):
        both = []
        for size, rows in zip(sizes, task, strict=True):
            both.append((rows, x.slice(ends, ends + size)))
            ends += size
        found.append(both)
    return found


@pytest.mark.parametrize("steps", [1, 3])
def test_first_order_is_the_query_gradient_at_the_adapted_parameters(steps: int) -> None:
    objective, batch = objective_of(), task_batch()
    config = Inner(learning_rate=RATE, order="first", steps=steps, inner="top")
    names = [name for name, _ in adapted_of(objective, config)]
    with torch.no_grad():
        x = objective.model.embedding(batch.batch)
    expected: list[dict[str, Tensor]] = []
    for (known, x_known), (query, x_query) in support_and_query(batch, x):
        values = dict[str, Tensor](objective.named_parameters())
        for _ in range(steps):
            values = moved(values, grads_of(objective, known, x_known, values), names)
        expected.append(grads_of(objective, query, x_query, values))
    found = meta_step(objective, config)(batch, 3, None)
    dense = [[g for name, g in each.items() if not name.startswith("row ")] for each in expected]
    for grad, *right in zip(found.parameters, *dense, strict=True):
        torch.testing.assert_close(grad, sum(right) / 2)
    assert found.embedded is not None
    rows = torch.split(found.embedded.flat, [size for sizes in SIZES for size in sizes])
    for i, e in enumerate(expected):
        assert not rows[2 * i].any()
        torch.testing.assert_close(rows[2 * i + 1], e["row 0"] / 2)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_tasks_of_the_same_rows_have_dropout_of_their_own(dropout: float) -> None:
    batch = TaskBatch(drawn(14).take(torch.arange(14).repeat(2)), ((5, 9), (5, 9)))
    found = meta_step(objective_of(tower_dropout=[dropout, dropout]), Inner(learning_rate=RATE))(batch, 3, None)
    first, second = found.by_microbatch
    assert all(map(torch.equal, first, second)) == (dropout == 0)


@pytest.mark.parametrize(("config", "first"), [({}, (5, 8)), ({"order": "reptile", "steps": 2}, (0, 0))])
def test_losses_are_of_the_query_and_for_reptile_of_all_rows(config: dict[str, Any], first: tuple[int, int]) -> None:
    objective, batch = objective_of(), task_batch()
    found, rows = (
        meta_step(objective, Inner(learning_rate=RATE, **config))(batch, 3, None),
        objective.labelled(batch.batch),
    )
    ends = (first[0], 14), (14 + first[1], 32)
    expected = sum(BatchTotals.of(rows.slice(start, stop)).weights for start, stop in ends)
    torch.testing.assert_close(found.weights, expected)


def test_reptile_is_the_mean_gradient_along_its_steps() -> None:
    objective, batch = objective_of(), TaskBatch(drawn(14), ((5, 9),))
    config = Inner(learning_rate=RATE, order="reptile", steps=2)
    names = [name for name, _ in adapted_of(objective, config)]
    with torch.no_grad():
        x = objective.model.embedding(batch.batch)
    start = dict[str, Tensor](objective.named_parameters())
    first = grads_of(objective, batch.batch.slice(0, 7), x.slice(0, 7), start)
    second = grads_of(objective, batch.batch.slice(7, 14), x.slice(7, 14), moved(start, first, names))
    found = meta_step(objective, config)(batch, 3, None)
    for grad, (name, one) in zip(found.parameters, first.items(), strict=False):
        torch.testing.assert_close(grad, (one + second[name]) / 2)
    assert found.embedded is not None and found.touching is None
    torch.testing.assert_close(found.embedded.flat, torch.cat([first["row 0"], second["row 0"]]) / 2)


@pytest.mark.slow
@pytest.mark.parametrize("config", [*CONFIGS.values(), {"order": "first"}, {"order": "reptile", "steps": 3}])
def test_nothing_leaks_from_an_inner_step_into_the_model(config: dict[str, Any]) -> None:
    objective, settings = objective_of(), Inner(learning_rate=RATE, **config)
    rates = [torch.ones_like(p) for _, p in adapted_of(objective, settings)] * settings.learned
    before = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
    meta_step(objective, settings, rates)(task_batch(), 3, None, watch=True)
    after = objective.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(after[n], t) for n, t in before.items())
    assert all(p.grad is None for p in objective.parameters())
    assert all(isinstance(p, torch.nn.Parameter) for p in objective.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(("order", "times"), [("second", 333), ("first", 50), ("reptile", 50)])
def test_threads_give_what_one_thread_gives(order: Any, times: int) -> None:
    """Hundreds of steps bit for bit: an adapted parameter of one task must not be seen by another."""
    objective = objective_of(tower_dropout=[0.2, 0.1])
    config = Inner(learning_rate=RATE, order=order, steps=2 if order == "reptile" else 1, inner="top")
    batch = TaskBatch(drawn(16), ((2, 2),) * 4)
    alone, shared = meta_step(objective, config), meta_step(objective, config, workers=4)
    with worker_pool(4) as pool:
        for seed in range(times):
            one, other = alone(batch, seed, None), shared(batch, seed, pool)
            assert one.embedded is not None and other.embedded is not None
            pairs = zip(
                [*one.parameters, *one.embedded.tensors()], [*other.parameters, *other.embedded.tensors()], strict=True
            )
            assert all(torch.equal(a, b) for a, b in pairs)


def test_watching_tells_the_gain_and_what_comes_through() -> None:
    objective, batch = objective_of(), task_batch()
    found = meta_step(objective, Inner(learning_rate=RATE))(batch, 3, None, watch=True).metrics
    assert found is not None and found.adaptation is not None and found.tasks == 2
    with torch.no_grad():
        x = objective.model.embedding(batch.batch)
    before = []
    for _, (query, rows) in support_and_query(batch, x):
        before.append(objective(microbatch(objective, query, rows))[0])
    torch.testing.assert_close(found.adaptation.before, sum(before) / 2)
    gain = found.adaptation.before - found.adaptation.after
    assert gain.abs().min() > 1e-4 and 0.01 < found.adaptation.through < 10
    tiny = meta_step(objective, Inner(learning_rate=1e-9))(batch, 3, None, watch=True).metrics
    assert tiny is not None and tiny.adaptation is not None and tiny.adaptation.through < 1e-7
    first = meta_step(objective, Inner(learning_rate=RATE, order="first"))(batch, 3, None, watch=True).metrics
    assert first is not None and first.adaptation is not None and first.adaptation.through == 0


def test_what_comes_through_several_steps_is_the_second_order_gradient_less_the_first() -> None:
    objective, batch = objective_of(), TaskBatch(drawn(14), ((5, 9),))
    found = [
        meta_step(objective, Inner(learning_rate=RATE, steps=3, order=order))(batch, 3, None, watch=True)
        for order in ("second", "first")
    ]
    whole, direct = (torch.cat([grad.flatten() for grad in each.parameters]) for each in found)
    assert found[0].metrics is not None and found[0].metrics.adaptation is not None
    assert found[0].metrics.adaptation.through == pytest.approx(float((whole - direct).norm() / whole.norm()), rel=1e-9)


def test_losses_are_the_queries_at_the_adapted_parameters() -> None:
    found = meta_step(objective_of(), Inner(learning_rate=RATE, steps=2))(task_batch(), 3, None, watch=True)
    assert found.metrics is not None and found.metrics.adaptation is not None
    torch.testing.assert_close(found.losses, found.metrics.adaptation.after)


def test_a_support_without_a_positive_is_legal_and_counted() -> None:
    objective, batch = objective_of(), task_batch()
    labels = batch.batch.labels
    assert labels is not None
    labels[:5, 1:] = 0
    found = meta_step(objective, Inner(learning_rate=RATE))(batch, 3, None)
    assert found.metrics is not None and found.metrics.lacking.tolist() == [0, 1, 1]
    assert all(g.isfinite().all() for g in found.parameters)


@pytest.mark.parametrize("support_loss", [0.0, 0.5])
def test_embedding_rows_of_the_support_alone_do_not_drift(support_loss: float) -> None:
    """Where only the tiny gradient through the inner step reaches them, Adam would move them by whole steps."""
    objective, batch = objective_of(), TaskBatch(drawn(5), ((3, 2),))
    config = Inner(learning_rate=1e-4, support_loss=support_loss)
    model, is_query = objective.model, torch.arange(5) >= 3
    optimizer = Optimizer(OptimizerConfig(), {}, {}, 0.01, model.embedding.all_tables())
    before = [table.weight.detach().clone() for table in optimizer.tables]
    found, alone, met = meta_step(objective, config)(batch, 3, None), 0, 0
    optimizer.step(replace(found, by_microbatch=[[]]))
    for table, old in zip(optimizer.tables, before, strict=True):
        read = {False: reading(table, batch.batch, ~is_query), True: reading(table, batch.batch, is_query)}
        moves = set(torch.nonzero((table.weight != old).any(1)).flatten().tolist())
        allowed = read[True] | (read[False] if support_loss else set())
        assert moves <= allowed
        alone, met = alone + len(read[False] - read[True]), met + len(read[True] & moves)
    assert alone > 0 and met > 0


def reading(table: Any, batch: Batch, rows: Tensor) -> set[int]:
    """Rows of the table that some rows of the batch read."""
    part = batch.take(torch.nonzero(rows).flatten())
    found = set(table.rows(part.ids).flatten().tolist()) if table.fields else set()
    return found.union(*(table.list_rows(part, name).tolist() for name in table.lists))


@pytest.mark.parametrize(
    ("model", "order", "inner"),
    pairwise(
        ["man", "ple", "aitm"], ["second", "first", "reptile"], ["all", "top", ("towers",), ("pooling", "towers")]
    ),
)
def test_float32_gives_what_float64_gives(model: str, order: Any, inner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By kernels where first derivatives are enough, and by the reference through inner steps."""
    monkeypatch.undo()  # the kernels know ReLU alone
    slow, config = objective_of(model), Inner(learning_rate=0.03, inner=inner, steps=2, order=order)
    fast = copy.deepcopy(slow).float()
    right = meta_step(slow, config)(task_batch(), 3, None)
    rows = drawn(sum(map(sum, SIZES)), dtype=torch.float32)
    found = meta_step(fast, config)(TaskBatch(rows, SIZES), 3, None)
    for mine, expected in zip(dense_of(fast, found), dense_of(slow, right), strict=True):
        torch.testing.assert_close(mine.double(), expected, rtol=1e-3, atol=1e-4)


def dense_of(objective: Objective, found: Gradients) -> list[Tensor]:
    """By parameters, and by all rows of the tables: of equal ids kernels may give one row the gradient of all."""
    tables = []
    for span in spans_of(objective.model.embedding.all_tables()):
        rows, grad = row_gradients(span, Reading.of(span, found.rows), found.embedded_by_microbatch)
        tables.append(torch.zeros_like(span.table.weight).index_copy_(0, rows.long(), grad))
    return [*found.parameters, *tables]
