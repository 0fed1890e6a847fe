"""Sequences to vectors against loops, what must not matter to them, and their derivatives."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from funnelcast import ops
from funnelcast.layers import pooling as module
from funnelcast.layers.embedding import Block, Embedded
from funnelcast.layers.lists import Elements
from funnelcast.layers.pooling import Norm, Positions, SequencePooling, TargetAttention, TransformerPooling
from tests.layers.inputs import source
from tests.layers.reference import (
    Floats,
    arrays,
    attend_to,
    draw,
    encode_all,
    has_derivatives,
    normalise,
    placed,
    randomise,
)

LENGTHS = [3, 0, 1, 5, 2]
EMPTY = {"empty lists": [0, 0, 0], "no rows": []}
WIDTH = 4
"""Of a copy. Two numbers would be too few: normalised, they are 1 and -1."""


def sequences(lengths: list[int], copies: int = 1, seed: int = 0, dtype: torch.dtype = torch.float64) -> Elements:
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    return Elements(draw(seed, sum(lengths), WIDTH * copies, dtype=dtype), offsets)


def of_row(elements: Elements, row: int) -> list[Floats]:
    return list(elements.vectors[elements.offsets[row] : elements.offsets[row + 1]].detach().numpy())


def din(copies: int = 1, hidden: tuple[int, ...] = (4,), **kind: Any) -> TargetAttention:
    """Its target stands in columns 3 and on, between others."""
    pool = TargetAttention("history", Block("item", 3, WIDTH * copies, copies), hidden, **kind).double()
    randomise(pool)
    return pool


def transformer(copies: int = 1, length: int = 5, **kind: Any) -> TransformerPooling:
    pool = TransformerPooling("history", WIDTH, copies, length, **{"hidden": 3, **kind}).double()
    randomise(pool)
    return pool


def flat_of(rows: int, copies: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return draw(8, rows, 3 + WIDTH * copies + 2, dtype=dtype)


@pytest.mark.parametrize("positions", [0, 3, 5])
@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize(("copies", "hidden"), [(1, (4,)), (1, (4, 3)), (3, (4,))])
def test_target_attention_is_dins(copies: int, hidden: tuple[int, ...], softmax: bool, positions: int) -> None:
    """Three positions are too few for the longest sequence: its oldest elements share the last."""
    pool = din(copies, hidden, softmax=softmax, positions=positions)
    elements, flat = sequences(LENGTHS, copies), flat_of(len(LENGTHS), copies)
    found, weights = pool(flat, elements), arrays(pool)
    assert found.shape == (len(LENGTHS), WIDTH * copies) and (pool.width, pool.copies) == (WIDTH, copies)
    for row in range(len(LENGTHS)):
        target = flat[row, 3 : 3 + WIDTH * copies].numpy()
        expected = attend_to(target, of_row(elements, row), weights, copies, softmax)
        np.testing.assert_allclose(found[row].detach(), expected, rtol=1e-12, atol=1e-13)


def test_a_sequence_given_twice_weighs_twice_unless_normalised() -> None:
    elements, flat = sequences([2]), flat_of(1)
    twice = Elements(elements.vectors.repeat(2, 1), torch.tensor([0, 4]))
    plain, normalised = din(), din(softmax=True)
    torch.testing.assert_close(plain(flat, twice), 2 * plain(flat, elements))
    torch.testing.assert_close(normalised(flat, twice), normalised(flat, elements))
    same = Elements(elements.vectors[:1].repeat(3, 1), torch.tensor([0, 3]))
    torch.testing.assert_close(normalised(flat, same), elements.vectors[:1])  # weights add up to one


@pytest.mark.parametrize("copies", [1, 2])
def test_softmax_holds_at_any_size_of_score_row_by_row(copies: int) -> None:
    """The largest score of another row, or of another copy, would leave 0 / 0."""
    pool = din(copies, softmax=True)
    with torch.no_grad():
        pool.score.weight.mul_(torch.linspace(1, 3e4, copies, dtype=torch.float64)[:, None, None] * 1e4)
    elements, flat = sequences(LENGTHS, copies), flat_of(len(LENGTHS), copies)
    flat[0] *= 100
    found = pool(flat, elements)
    for row in range(len(LENGTHS)):
        target = flat[row, 3 : 3 + WIDTH * copies].numpy()
        expected = attend_to(target, of_row(elements, row), arrays(pool), copies, True)
        np.testing.assert_allclose(found[row].detach(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize(("copies", "layers"), [(1, 1), (2, 1), (1, 2), (2, 3)])
def test_transformer_pooling_is_vaswanis_layers_and_the_mean(copies: int, layers: int, heads: int) -> None:
    pool = transformer(copies, heads=heads, layers=layers)
    elements = sequences(LENGTHS, copies)
    found, weights = pool(flat_of(len(LENGTHS)), elements), arrays(pool)
    assert found.shape == (len(LENGTHS), WIDTH * copies)
    for row in range(len(LENGTHS)):
        expected = encode_all(of_row(elements, row), weights, (copies, heads))
        np.testing.assert_allclose(found[row].detach(), expected, rtol=1e-11, atol=1e-12)


def key_of(*seeds: int, rows: int = 10**9) -> ops.DropoutKey:
    return ops.DropoutKey(torch.tensor(seeds), rows)


def trebled(x: Tensor, rate: float, key: ops.DropoutKey | None) -> Tensor:
    """As if dropout multiplied every element by 3, so that a formula can follow it."""
    assert rate == 0.25 and key is not None
    return 3 * x


def test_dropout_is_after_attention_and_in_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, elements = transformer(2, layers=2, dropout=0.25), sequences(LENGTHS, 2)
    with monkeypatch.context() as patch:
        patch.setattr(ops, "dropout", trebled)
        found = pool(flat_of(len(LENGTHS)), elements, key_of(0))
    for row in range(len(LENGTHS)):
        expected = encode_all(of_row(elements, row), arrays(pool), (2, 1), kept=3.0)
        np.testing.assert_allclose(found[row].detach(), expected, rtol=1e-11, atol=1e-12)
    first, same, other = (pool(flat_of(len(LENGTHS)), elements, key_of(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, same) and not torch.equal(first, other)


def test_blocks_of_rows_are_pooled_by_their_own_seeds() -> None:
    """As if each block was alone, whatever the lengths of sequences in the others."""
    pool, elements, flat = transformer(dropout=0.25), sequences(LENGTHS), flat_of(len(LENGTHS))
    found = pool(flat, elements, key_of(3, 4, rows=3))
    parts = [pool(flat[s], elements.slice(s.start, s.stop), key_of(k)) for k, s in ((3, slice(0, 3)), (4, slice(3, 5)))]
    torch.testing.assert_close(found, torch.cat(parts), rtol=1e-12, atol=1e-13)
    assert not torch.allclose(found, pool(flat, elements))


POOLS: dict[str, TargetAttention | TransformerPooling] = {
    "din": din(positions=5),
    "din by softmax": din(softmax=True, positions=5),
    "din of copies": din(2, (4, 3), softmax=True, positions=5),
    "transformer": transformer(layers=2),
    "transformer of copies": transformer(2, heads=2),
}


@pytest.mark.parametrize("name", POOLS)
def test_rows_know_nothing_of_each_other(name: str) -> None:
    """A longer list elsewhere pads this one, and no list at all leaves no room."""
    pool = POOLS[name]
    elements, flat = sequences(LENGTHS, pool.copies), flat_of(len(LENGTHS), pool.copies)
    whole = pool(flat, elements)
    for row in range(len(LENGTHS)):
        alone = pool(flat[row : row + 1], elements.slice(row, row + 1))
        torch.testing.assert_close(alone[0], whole[row], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("name", POOLS)
def test_rows_are_pooled_in_groups(name: str, group: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any number and any lengths: the same vectors in the same places, and the same derivatives."""
    pool, lengths = POOLS[name], [3, 0, 1, 5, 2, 0, 0, 4]

    def results() -> list[Tensor]:
        leaves = [sequences(lengths, pool.copies).vectors.requires_grad_(), flat_of(8, pool.copies).requires_grad_()]
        out = pool(leaves[1], Elements(leaves[0], sequences(lengths).offsets))
        targets = [*leaves[: 1 + name.startswith("din")], *pool.parameters()]
        return [out.detach(), *torch.autograd.grad((out * draw(9, *out.shape)).sum(), targets)]

    expected = results()
    monkeypatch.setattr(module, "GROUP", group)
    for mine, right in zip(results(), expected, strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("lengths", EMPTY.values(), ids=EMPTY.keys())
def test_an_empty_list_is_zero_and_teaches_nothing(lengths: list[int], name: str) -> None:
    pool = POOLS[name]
    elements = sequences(lengths, pool.copies)._replace(vectors=torch.empty(0, WIDTH * pool.copies).double())
    leaves = [elements.vectors.requires_grad_(), flat_of(len(lengths), pool.copies).requires_grad_()]
    out = pool(leaves[1], elements)
    assert out.shape == (len(lengths), WIDTH * pool.copies) and not out.any()
    grads = torch.autograd.grad(out.sum(), [*leaves, *pool.parameters()], allow_unused=True)
    assert all(grad is None or not grad.any() for grad in grads)
    among = pool(flat_of(len(LENGTHS), pool.copies), sequences(LENGTHS, pool.copies))
    assert not among[1].any() and bool(among[[0, 2, 3, 4]].any(1).all())


@pytest.mark.parametrize("name", POOLS)
def test_the_order_matters_by_positions_alone(name: str) -> None:
    pool, mixed = copy.deepcopy(POOLS[name]), torch.tensor([2, 0, 1, 3, 8, 6, 4, 5, 7, 9, 10])
    elements, flat = sequences(LENGTHS, pool.copies), flat_of(len(LENGTHS), pool.copies)
    other = elements._replace(vectors=elements.vectors[mixed])
    moved = (pool(flat, elements) - pool(flat, other)).abs().amax(1) > 1e-6
    assert moved.tolist() == [True, False, False, True, False]
    assert pool.positions is not None
    nn.init.zeros_(pool.positions.weight)
    torch.testing.assert_close(pool(flat, elements), pool(flat, other), rtol=1e-12, atol=1e-13)


def test_places_are_counted_from_the_newest() -> None:
    positions = Positions(3, WIDTH).double()
    randomise(positions)
    elements = sequences([5, 0, 1, 3])
    found = elements._replace(vectors=elements.vectors + positions.of(elements.ages(elements.owners())))
    for row in range(4):
        expected = placed(of_row(elements, row), arrays(positions)["weight"])
        for mine, right in zip(of_row(found, row), expected, strict=True):
            np.testing.assert_array_equal(mine, right)
    ages = torch.tensor([[0, 1, 2], [7, -1, -9]])
    assert torch.equal(positions.of(ages), positions.weight[torch.tensor([[0, 1, 2], [2, 0, 0]])])


@pytest.mark.parametrize("heads", [1, 2])
def test_what_is_in_padding_never_matters(heads: int) -> None:
    """A layer of three sequences padded to four elements, with anything in the padding."""
    layer = transformer(2, heads=heads).layers[0]
    held = torch.arange(4) < torch.tensor([4, 1, 2])[:, None]
    x, other = draw(1, 2, 3, 4, WIDTH), draw(2, 2, 3, 4, WIDTH) * 1e6
    found, changed = (layer(y, held, None)[:, held] for y in (x, torch.where(held[..., None], x, other)))
    torch.testing.assert_close(changed, found, rtol=1e-12, atol=1e-13)
    x = x.requires_grad_()
    (grad,) = torch.autograd.grad(layer(x, held, None)[:, held].square().sum(), x)
    assert bool(grad[:, held].any(1).all()) and not grad[:, ~held].any()


def test_an_exported_model_has_room_for_the_longest_list(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, elements, seen = transformer(length=7), sequences(LENGTHS), []
    expected = pool(flat_of(len(LENGTHS)), elements)
    pool.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[2]))
    pool(flat_of(len(LENGTHS)), elements)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    torch.testing.assert_close(pool(flat_of(len(LENGTHS)), elements), expected, rtol=1e-12, atol=1e-13)
    assert seen == [5, 7]


@pytest.mark.parametrize("name", POOLS)
def test_derivatives(name: str) -> None:
    pool, lengths = POOLS[name], [2, 0, 1, 3]
    names = [parameter for parameter, _ in pool.named_parameters()]
    offsets = sequences(lengths).offsets

    def squares(flat: Tensor, vectors: Tensor, *parameters: Tensor) -> Tensor:
        state = dict(zip(names, parameters, strict=True))
        out: Tensor = functional_call(pool, state, (flat, Elements(vectors, offsets)))
        return (out * out).sum()

    vectors, flat = sequences(lengths, pool.copies).vectors, flat_of(4, pool.copies)
    assert has_derivatives(squares, [flat, vectors, *pool.parameters()])


@pytest.mark.parametrize("lengths", [LENGTHS, [0, 0, 0], []])
@pytest.mark.parametrize("name", POOLS)
def test_kernels_pool_alike(name: str, lengths: list[int]) -> None:
    """The same values and first derivatives in float32, as training takes them."""

    def results(dtype: torch.dtype) -> list[Tensor]:
        pool = copy.deepcopy(POOLS[name]).to(dtype)
        vectors = sequences(lengths, pool.copies).vectors.to(dtype).requires_grad_()
        flat = flat_of(len(lengths), pool.copies, dtype)
        with ops.compute(torch.device("cpu"), dtype=dtype):
            out = pool(flat, Elements(vectors, sequences(lengths).offsets))
        return [out.detach(), *torch.autograd.grad((out * draw(9, *out.shape)).sum(), [vectors, *pool.parameters()])]

    for mine, right in zip(results(torch.float32), results(torch.float64), strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine.double(), right, rtol=2e-4, atol=2e-5)


def appending(copies: int) -> SequencePooling:
    """Two pools, of 4 numbers a copy and 2, on a row of two fields and a number."""
    layout = [Block("shop", 0, 3 * copies, copies), Block("item", 3 * copies, WIDTH * copies, copies)]
    layout.append(Block("price", (3 + WIDTH) * copies, 1, 1))
    target = TargetAttention("history", layout[1], (4,))
    pooling = SequencePooling(layout, [target, TransformerPooling("visited", 2, copies, 5, hidden=3)]).double()
    randomise(pooling)
    return pooling


@pytest.mark.parametrize("copies", [1, 2])
def test_vectors_of_sequences_are_appended_to_a_row(copies: int) -> None:
    pooling, flat = appending(copies), draw(0, len(LENGTHS), (3 + WIDTH) * copies + 1)
    first, second = sequences(LENGTHS, copies, seed=1), sequences(LENGTHS[::-1], copies, seed=2)
    second = second._replace(vectors=second.vectors[:, : 2 * copies].contiguous())
    found, start = pooling(Embedded(flat, (first, second))), flat.shape[1]
    assert torch.equal(found[:, :start], flat) and found.shape[1] == pooling.width
    blocks = [Block("history", start, 4 * copies, copies), Block("visited", start + 4 * copies, 2 * copies, copies)]
    assert pooling.layout[3:] == blocks
    for pool, elements, (_, at, width, _) in zip(pooling.pools, (first, second), blocks, strict=True):
        torch.testing.assert_close(found[:, at : at + width], pool(flat, elements))


def test_columns_of_a_copy_are_its_own_and_those_of_all() -> None:
    """shop 0-5, item 6-13, price 14, history 15-22, visited 23-26; of each the first half, then the second."""
    pooling = appending(2)
    assert pooling.columns(0) == [0, 1, 2, 6, 7, 8, 9, 14, 15, 16, 17, 18, 23, 24]
    assert pooling.columns(1) == [3, 4, 5, 10, 11, 12, 13, 14, 19, 20, 21, 22, 25, 26]
    assert appending(1).columns(0) == list(range(14))


def test_a_row_without_sequences_passes_unchanged() -> None:
    layout = [Block("shop", 0, 3, 1), Block("price", 3, 1, 1)]
    pooling, flat = SequencePooling(layout, []), draw(0, 5, 4)
    assert pooling(Embedded(flat)) is flat and pooling.width == 4 and pooling.columns(0) == [0, 1, 2, 3]
    assert not list(pooling.parameters())


def test_norm_is_of_each_vector_by_the_encoders_own_scale() -> None:
    norm, x = Norm(2, 4).double(), draw(0, 2, 5, 4)
    norm.reset(source(0))
    torch.testing.assert_close(norm(x).var(2, correction=0), torch.ones(2, 5).double(), rtol=1e-2, atol=0)
    randomise(norm)
    found, weights = norm(x), arrays(norm)
    for n in range(2):
        for row in range(5):
            expected = normalise(x[n, row].numpy()) * weights["scale"][n, 0] + weights["bias"][n, 0]
            np.testing.assert_allclose(found[n, row].detach(), expected, rtol=1e-12, atol=1e-13)


def test_positions_start_small_and_by_the_generator() -> None:
    first, second, other = (Positions(500, 8) for _ in range(3))
    for positions, seed in ((first, 1), (second, 1), (other, 2)):
        positions.reset(source(seed))
    assert torch.equal(first.weight, second.weight) and not torch.equal(first.weight, other.weight)
    assert first.weight.std().item() == pytest.approx(0.02, rel=0.05) and abs(first.weight.mean().item()) < 0.02 / 15
