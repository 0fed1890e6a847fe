"""Adam by rows against PyTorch's Adam and by hand; what is clipped, decayed, saved."""

from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from funnelcast.data.batch import Batch
from funnelcast.data.encoder import InputSpec, ListSpec
from funnelcast.errors import FunnelcastError
from funnelcast.layers.banks import LinearBank
from funnelcast.layers.embedding import Embedded, Embedding, EmbeddingTable
from funnelcast.layers.pooling import Norm
from funnelcast.runtime.threads import worker_pool
from funnelcast.training import adam
from funnelcast.training.adam import RowAdam
from funnelcast.training.gradients import Gradients
from funnelcast.training.optimizers import Optimizer, OptimizerConfig
from tests.layers.inputs import draw_batch, lists_of, of_row

INPUTS = InputSpec(
    (("a", "small"), ("b", "large"), ("c", "small")),
    {"small": 3, "large": 5},
    ("x",),
    (ListSpec("bag", "large", "multi", weighted=True), ListSpec("past", "small", "sequence", max_length=4)),
)
"""Embedded: a and c of 2 numbers, b and the bag of 3, x; and 2 for each element of the past."""
NAMES: list[Literal["adam", "adam_dense"]] = ["adam", "adam_dense"]


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def table_of(rows: int, width: int) -> EmbeddingTable:
    table = EmbeddingTable(InputSpec((("a", "v"),), {"v": rows}, ()), ["v"], width, {}).double()
    with torch.no_grad():
        table.weight.copy_(draw(0, rows, width))
    return table


@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_rows_that_are_in_every_batch_move_as_in_pytorchs_adam(l2: float) -> None:
    table, rows = table_of(6, 3), torch.tensor([4, 0, 5, 1, 3, 2])
    expected = nn.Parameter(table.weight.detach().clone())
    mine, right = RowAdam(table, 0.01, l2), torch.optim.Adam([expected], lr=0.01, weight_decay=l2)
    for step in range(1, 8):
        grad = draw(step, 6, 3)
        expected.grad = grad
        right.step()
        mine.step(rows, grad[rows])
        torch.testing.assert_close(table.weight, expected, rtol=1e-12, atol=1e-14)


def test_other_rows_and_their_moments_stay_as_they_are() -> None:
    table = table_of(6, 2)
    adam = RowAdam(table, 0.01, l2=0.5)
    adam.step(torch.tensor([0, 1, 2]), draw(1, 3, 2))
    before = [t.clone() for t in (table.weight, adam.moments)]
    adam.step(torch.tensor([2, 4]), draw(2, 2, 2))
    others = [0, 1, 3, 5]
    for was, now in zip(before, (table.weight, adam.moments), strict=True):
        assert torch.equal(was[others], now[others])
        assert not torch.any(was[[2, 4]] == now[[2, 4]])


def test_a_row_seen_first_in_the_third_step_moves_by_the_formula() -> None:
    table = table_of(2, 1)
    adam, start, grad, l2, rate = RowAdam(table, 0.1, l2=0.2), table.weight[1].item(), 0.7, 0.2, 0.1
    for _ in range(2):
        adam.step(torch.tensor([0]), torch.ones(1, 1, dtype=torch.float64))
    adam.step(torch.tensor([1]), torch.tensor([[grad]], dtype=torch.float64))
    g = grad + l2 * start
    mean, square = 0.1 * g / (1 - 0.9**3), 0.001 * g * g / (1 - 0.999**3)
    assert table.weight[1].item() == pytest.approx(start - rate * mean / (square**0.5 + 1e-8), rel=1e-12)


def parts(frozen: str = "") -> tuple[Embedding, dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    embedding = Embedding(INPUTS, 2, {"large": 3}, {"bag": "sum", "past": None}, frozen.split())
    embedding.reset("xavier_uniform", torch.Generator().manual_seed(0))
    dense = {"w": nn.Parameter(draw(1, 3, 2).float()), "v": nn.Parameter(draw(2, 4).float())}
    return embedding, dense, {"s": nn.Parameter(torch.tensor([0.3, -0.2]))}


def batch_of(seed: int, rows: int = 6) -> Batch:
    return draw_batch(rows, seed, INPUTS, torch.float32)


def gradient_of(batch: Batch, seed: int, scale: float = 1.0) -> Embedded:
    """Of the embedded batch, drawn from `seed`."""
    drawn: Embedded = Embedding(INPUTS, 2, {"large": 3}, {"bag": "sum", "past": None})(batch)
    return drawn.with_tensors([draw(seed + i, *t.shape).float() * scale for i, t in enumerate(drawn.tensors())])


def found(grads: list[Tensor], batch: Batch, embedded: Embedded | None) -> Gradients:
    """What a step hands to the optimizer."""
    return Gradients(batch, torch.zeros(0), torch.zeros(0), [grads], [] if embedded is None else [embedded])


def ones_of(batch: Batch) -> Embedded:
    drawn = gradient_of(batch, 0)
    return drawn.with_tensors([torch.ones_like(t) for t in drawn.tensors()])


def step(optimizer: Optimizer, seed: int, scale: float = 1.0) -> tuple[Batch, list[Tensor], Embedded]:
    """One step with gradients drawn from `seed`, and copies of them."""
    batch = batch_of(seed)
    grads = [draw(seed + n, *p.shape).float() * scale for n, p in enumerate(optimizer.parameters)]
    embedded = gradient_of(batch, seed + 9, scale)
    copies = embedded.with_tensors([t.clone() for t in embedded.tensors()])
    optimizer.step(found([g.clone() for g in grads], batch, copies))
    return batch, grads, embedded


def test_adam_dense_is_pytorchs_adam_on_every_row() -> None:
    (embedding, dense, weights), (other, other_dense, other_weights) = parts(), parts()
    config = OptimizerConfig(name="adam_dense", learning_rate=0.02, l2=0.1)
    mine = Optimizer(config, dense, weights, 0.5, embedding.all_tables())
    plain: list[Any] = [*other_dense.values(), *other.parameters()]
    right = torch.optim.Adam(
        [{"params": plain, "weight_decay": 0.1}, {"params": list(other_weights.values()), "lr": 0.5}], lr=0.02
    )
    for seed in range(10, 60, 10):
        batch, grads, embedded = step(mine, seed)
        right.zero_grad()
        for own, grad in zip(other(batch).tensors(), embedded.tensors(), strict=True):
            own.backward(grad, retain_graph=True)
        for parameter, grad in zip([*other_dense.values(), *other_weights.values()], grads, strict=True):
            parameter.grad = grad
        right.step()
    for a, b in zip(
        [*dense.values(), *weights.values(), *embedding.parameters()],
        [*other_dense.values(), *other_weights.values(), *other.parameters()],
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)  # float32: fused and plain round differently


def test_both_optimizers_agree_while_every_row_is_in_every_batch() -> None:
    states = []
    for name in NAMES:
        embedding, dense, weights = parts()
        config = OptimizerConfig(name=name, l2=0.1, weight_decay=2, embedding_decay=1)
        optimizer = Optimizer(config, dense, weights, 0.1, embedding.all_tables())
        for seed in range(3):
            ids = torch.tensor([[0, 0, 1], [1, 1, 2], [2, 2, 0], [0, 3, 1], [1, 4, 2]]).int()
            batch = Batch(ids, torch.ones(5, 1), lists=batch_of(seed, 5).lists)
            grads = [draw(seed, *p.shape).float() for p in optimizer.parameters]
            optimizer.step(found(grads, batch, gradient_of(batch, seed)))
        states.append([*embedding.parameters(), *dense.values(), *weights.values()])
    for a, b in zip(*states, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)  # float32, two formulas


@pytest.mark.parametrize("clip", [0.5, 1e6])
def test_clipping_scales_all_gradients_by_their_common_norm(clip: float) -> None:
    embedding, dense, weights = parts()
    optimizer = Optimizer(OptimizerConfig(clip=clip, l2=0), dense, weights, 0.1, embedding.all_tables())
    batch, grads, embedded = step(optimizer, 3, scale=5)
    by_row, elements = torch.zeros(5 + 3, 3), iter(embedded.sequences[0].vectors)
    for i, (a, b, c) in enumerate(batch.ids.tolist()):
        by_row[a, :2] += embedded.flat[i, :2]
        by_row[c, :2] += embedded.flat[i, 2:4]
        by_row[3 + b] += embedded.flat[i, 4:7]
        for number, weight in zip(*of_row(batch.lists["bag"], i), strict=True):
            by_row[3 + number] += weight * embedded.flat[i, 7:10]
        for number in of_row(batch.lists["past"], i)[0]:
            by_row[number, :2] += next(elements)
    norm = torch.cat([by_row.flatten(), *(g.flatten() for g in grads)]).norm()
    factor = min(1.0, clip / norm.item())
    state = optimizer.state()
    for name, grad in zip(["w", "v", "s"], grads, strict=True):
        torch.testing.assert_close(state[f"adam.{name}.exp_avg"], 0.1 * factor * grad, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(state["rows.0.moments"][:, 0], 0.1 * factor * by_row[:3, :2], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(state["rows.1.moments"][:, 0], 0.1 * factor * by_row[3:], rtol=1e-5, atol=1e-7)


def without_weights(rows: int) -> Batch:
    """Weights of 1, so that gradients of 1 add up to something above 0 in every row."""
    drawn = batch_of(1, rows)
    return Batch(drawn.ids, drawn.numeric, lists={name: replace(x, weights=None) for name, x in drawn.lists.items()})


def test_loss_weights_have_their_own_rate_and_no_decay() -> None:
    _, dense, weights = parts()
    dense_before, before = dense["w"].detach().clone(), weights["s"].detach().clone()
    optimizer = Optimizer(OptimizerConfig(learning_rate=0.01, l2=0.1), dense, weights, 0.25)
    optimizer.step(found([torch.ones(3, 2), torch.zeros(4), torch.tensor([1.0, 0.0])], batch_of(0), None))
    torch.testing.assert_close(before - weights["s"], torch.tensor([0.25, 0.0]), rtol=1e-5, atol=0)
    torch.testing.assert_close(dense_before - dense["w"], torch.full((3, 2), 0.01), rtol=1e-3, atol=0)


def test_the_rate_of_a_stage_replaces_that_of_the_config_for_dense_and_rows() -> None:
    (embedding, dense, _), batch = parts(), without_weights(40)
    before = [t.detach().clone() for t in (dense["w"], embedding.all_tables()[0].weight)]
    optimizer = Optimizer(OptimizerConfig(l2=0), dense, {}, 0.1, embedding.all_tables(), learning_rate=0.2)
    optimizer.step(found([torch.ones(3, 2), torch.ones(4)], batch, ones_of(batch)))
    for was, now in zip(before, (dense["w"], embedding.all_tables()[0].weight), strict=True):
        torch.testing.assert_close(was - now, torch.full_like(was, 0.2), rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_saved_state_goes_on_bit_by_bit(name: Literal["adam", "adam_dense"]) -> None:
    config = OptimizerConfig(name=name, l2=0.01, weight_decay=0.5, embedding_decay=0.3)
    embedding, dense, weights = parts()
    undisturbed = Optimizer(config, dense, weights, 0.1, embedding.all_tables())
    for seed in range(3):
        step(undisturbed, seed)
    other, other_dense, other_weights = parts()
    for ours, theirs in ((embedding, other), (nn.ParameterDict(dense), nn.ParameterDict(other_dense))):
        theirs.load_state_dict(ours.state_dict())
    other_weights["s"].data.copy_(weights["s"].data)
    resumed = Optimizer(config, other_dense, other_weights, 0.1, other.all_tables())
    resumed.load({key: tensor.clone() for key, tensor in undisturbed.state().items()})
    for optimizer in (undisturbed, resumed):
        step(optimizer, 7)
    assert undisturbed.state().keys() == resumed.state().keys()
    assert all(torch.equal(tensor, resumed.state()[key]) for key, tensor in undisturbed.state().items())
    pairs = zip([embedding, nn.ParameterDict(dense)], [other, nn.ParameterDict(other_dense)], strict=True)
    assert all(torch.equal(t, b.state_dict()[key]) for a, b in pairs for key, t in a.state_dict().items())


def test_an_embedding_alone_can_be_trained() -> None:
    (embedding, _, _), batch = parts(), without_weights(40)
    before = [table.weight.detach().clone() for table in embedding.all_tables()]
    Optimizer(OptimizerConfig(), {}, {}, 0.1, embedding.all_tables()).step(found([], batch, ones_of(batch)))
    assert not any(torch.any(was == now.weight) for was, now in zip(before, embedding.all_tables(), strict=True))


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("name", NAMES)
def test_frozen_tables_stay_and_change_nothing_else(name: Literal["adam", "adam_dense"], clip: float | None) -> None:
    """The large vocabulary frozen: its rows have no moments, and no part in the norm that is clipped."""
    config = OptimizerConfig(name=name, l2=0.01, clip=clip)
    (embedding, dense, weights), (alone, other_dense, other_weights) = parts("large"), parts()
    small, large = embedding.all_tables()
    before = large.weight.detach().clone()
    with torch.no_grad():
        small.weight.copy_(alone.all_tables()[0].weight)
    mine = Optimizer(config, dense, weights, 0.1, embedding.all_tables())
    right = Optimizer(config, other_dense, other_weights, 0.1, alone.all_tables()[:1])
    assert mine.tables == [small]
    for seed in range(3):
        step(mine, seed)
        step(right, seed)
    assert torch.equal(large.weight, before) and large.weight.grad is None
    assert mine.state().keys() == right.state().keys()
    assert all(torch.equal(tensor, right.state()[key]) for key, tensor in mine.state().items())
    assert torch.equal(small.weight, alone.all_tables()[0].weight)


@pytest.mark.parametrize("name", NAMES)
def test_a_table_after_a_frozen_one_moves_by_its_own_gradient(name: Literal["adam", "adam_dense"]) -> None:
    config, ((embedding, *_), (free, *_)) = OptimizerConfig(name=name), (parts("small"), parts())
    before = [table.weight.detach().clone() for table in embedding.all_tables()]
    for each in (embedding, free):
        step(Optimizer(config, {}, {}, 0.1, each.all_tables()), 3)
    (small, large), (_, expected) = embedding.all_tables(), free.all_tables()
    assert torch.equal(small.weight, before[0]) and not torch.equal(large.weight, before[1])
    assert torch.equal(large.weight, expected.weight)


def test_a_batch_whose_lists_are_all_empty() -> None:
    (embedding, dense, weights), drawn = parts(), batch_of(0)
    optimizer = Optimizer(OptimizerConfig(), dense, weights, 0.1, embedding.all_tables())
    empty = lists_of([[]] * 6, [[]] * 6, dtype=torch.float32)
    batch = Batch(drawn.ids, drawn.numeric, lists={"bag": empty, "past": empty})
    before = embedding.all_tables()[1].weight.detach().clone()
    optimizer.step(found([torch.ones(3, 2), torch.ones(4), torch.ones(2)], batch, ones_of(batch)))
    moved = (embedding.all_tables()[1].weight != before).any(1).nonzero().flatten().tolist()
    assert moved == sorted(set(batch.ids[:, 1].tolist()))


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("name", NAMES)
def test_threads_that_share_a_step_move_all_to_the_same_bits(
    name: Literal["adam", "adam_dense"], clip: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adam, "SHARE", 2)
    moved = []
    for workers in (1, 3):
        embedding, dense, weights = parts()
        config = OptimizerConfig(name=name, l2=0.1, clip=clip, weight_decay=2, embedding_decay=1)
        optimizer = Optimizer(config, dense, weights, 0.1, embedding.all_tables())
        with worker_pool(workers) as pool:
            for seed in range(10, 40, 10):
                batch = batch_of(seed)
                grads = [draw(seed + n, *p.shape).float() for n, p in enumerate(optimizer.parameters)]
                optimizer.step(found(grads, batch, gradient_of(batch, seed)), pool)
        moved.append([*embedding.parameters(), *dense.values(), *weights.values()])
    for alone, shared in zip(*moved, strict=True):
        assert torch.equal(alone, shared)


def test_microbatches_are_added_up_before_they_move_anything() -> None:
    moved = []
    for by_microbatch in ([[1.0, 2.0], [0.5, -4.0], [0.25, 1.0]], [[1.75, -1.0]]):
        _, dense, _ = parts()
        own = [[torch.full((3, 2), a), torch.full((4,), b)] for a, b in by_microbatch]
        both = Optimizer(OptimizerConfig(), dense, {}, 0.1)
        both.step(Gradients(batch_of(0), torch.zeros(0), torch.zeros(0), own, []))
        moved.append([tensor for parameter in both.adam.state() for tensor in parameter.values()])
    assert all(torch.equal(a, b) for a, b in zip(*moved, strict=True))


def test_a_checkpoint_of_another_version_is_told_as_one() -> None:
    embedding, dense, weights = parts()
    optimizer = Optimizer(OptimizerConfig(), dense, weights, 0.1, embedding.all_tables())
    state = optimizer.state()
    state["rows.0.first"] = state.pop("rows.0.moments")[:, 0]
    with pytest.raises(FunnelcastError, match=r"lacks rows\.0\.moments: it is of another version of funnelcast"):
        optimizer.load(state)


def test_a_checkpoint_with_moments_apart_goes_on_bit_by_bit() -> None:
    """As they were written before moments lay beside each other."""
    (embedding, dense, weights), (other, other_dense, other_weights) = parts(), parts()
    first = Optimizer(OptimizerConfig(), dense, weights, 0.1, embedding.all_tables())
    step(first, 3)
    state = {name: tensor.clone() for name, tensor in first.state().items()}
    for own in ("rows.0.", "rows.1."):
        state[f"{own}mean"], state[f"{own}square"] = state.pop(f"{own}moments").unbind(1)
    second = Optimizer(OptimizerConfig(), other_dense, other_weights, 0.1, other.all_tables())
    second.load(state)
    assert second.state().keys() == first.state().keys()
    assert all(torch.equal(tensor, second.state()[name]) for name, tensor in first.state().items())


@pytest.mark.parametrize("name", NAMES)
def test_each_kind_of_parameter_has_its_own_decay(name: Literal["adam", "adam_dense"]) -> None:
    """By steps without a gradient: weights of layers shrink, rows in or out of the batch, and nothing else moves."""
    embedding, _, weights = parts()
    layers = nn.ModuleDict({"bank": LinearBank(2, 3, 4), "linear": nn.Linear(3, 2), "norm": Norm(2, 3)})
    layers["plain_norm"] = nn.LayerNorm(3)
    for parameter in layers.parameters():
        nn.init.ones_(parameter)
    rates = {"0": nn.Parameter(torch.ones(2, 2))}
    config = OptimizerConfig(name=name, l2=0, learning_rate=0.01, weight_decay=2, embedding_decay=3)
    dense = dict(layers.named_parameters())
    optimizer = Optimizer(config, dense, weights, 0.1, embedding.all_tables(), rates=rates)
    before = {n: p.detach().clone() for n, p in [*embedding.named_parameters(), *weights.items()]}
    for _ in range(2):
        zeros = [torch.zeros_like(p) for p in optimizer.parameters]
        nothing = ones_of(batch_of(0)).scale(0.0)
        optimizer.step(found(zeros, batch_of(0), nothing))
    optimizer.settle()
    decayed = {n for n, p in dense.items() if (p != 1).any()}
    assert decayed == {"bank.weight", "linear.weight"} and torch.all(rates["0"] == 1)
    for each in decayed:
        torch.testing.assert_close(dense[each], torch.full_like(dense[each], 0.98**2))
    assert torch.equal(weights["s"], before["s"])
    for each, parameter in embedding.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[each] * 0.97**2)


@pytest.mark.parametrize("setting", ["weight_decay", "embedding_decay"])
def test_a_decay_that_takes_all_is_a_fault(setting: str) -> None:
    config = OptimizerConfig.model_validate({setting: 50.0, "learning_rate": 0.01})
    assert config.check(None) == [] == OptimizerConfig().check(1e6)
    (fault,) = config.check(0.02)
    assert f"optimizer.{setting}: 50.0 takes all of a weight in one step at a learning rate of 0.02" in str(fault)
