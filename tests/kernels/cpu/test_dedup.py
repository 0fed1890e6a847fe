"""Vectors that repeat in a batch: the first layer by tables against the plain one in float64."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from funnelcast.data.batch import Batch
from funnelcast.data.encoder import InputSpec
from funnelcast.layers.banks import MLPBank
from funnelcast.layers.dropout import Noise, Seed
from funnelcast.layers.embedding import Embedding
from funnelcast.layers.gates import GateBank, GatedExperts, own_and_shared
from funnelcast.layers.leaves import Leaves
from funnelcast.layers.mode import Mode
from funnelcast.layers.repeats import Field, Repeats, _cheapest, _plan, repeats_of
from funnelcast.training.overlay import laid_over
from tests.layers.reference import randomise

SIZES = {
    "in between": {"user": 3000, "age": 9, "sex": 3, "item": 2500, "shop": 40, "city": 5},
    "first and last": {"sex": 3, "age": 9, "user": 3000, "shop": 100},
    "nothing else": {"sex": 3, "age": 9, "colour": 40},
}
WIDE, NARROW = (80, 24), (60, 24)
"""Layers of which the first is, and is not, a whole number of registers."""


def embedding_of(sizes: dict[str, int], width: int = 5) -> Embedding:
    numeric = ("price",) if "user" in sizes else ()
    inputs = InputSpec(tuple((name, name) for name in sizes), sizes, numeric)
    embedding = Embedding(inputs, width, {"shop": 2})
    randomise(embedding, 3)
    return embedding


def batch_of(sizes: dict[str, int], rows: int, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.integers(0, size, rows) for size in sizes.values()], axis=1).astype(np.int32)
    return Batch(torch.from_numpy(ids), torch.from_numpy(rng.normal(size=(rows, 1)).astype(np.float32)))


def trunk_of(width: int, widths: tuple[int, ...], dropout: tuple[float, ...] = ()) -> GatedExperts:
    trunk = GatedExperts(MLPBank(4, width, widths, dropout), GateBank(width, own_and_shared(2, 1, 2)))
    randomise(trunk, 1, scale=0.3)
    return trunk


def results(embedding: Embedding, trunk: nn.Module, batch: Batch, *, by_tables: bool, seed: int = 0) -> list[Tensor]:
    """What the trunk makes of a batch, and its gradients by all parameters, the rows of the embedding included."""
    dtype = next(trunk.parameters()).dtype
    embedded = embedding(batch)
    flat = embedded.flat.to(dtype)
    repeats = embedding.repeats(embedded, flat) if by_tables else None
    out = trunk(flat, Mode(Noise(Seed(seed)), by_tables, repeats=repeats))
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64).to(dtype)
    parameters = [*embedding.parameters(), *trunk.parameters()]
    return [out.detach(), *torch.autograd.grad((out * direction).sum(), parameters)]


def assert_close(found: list[Tensor], expected: list[Tensor]) -> None:
    for mine, right in zip(found, expected, strict=True):
        torch.testing.assert_close(mine.double(), right, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("rows", [1, 7, 300, 901])
@pytest.mark.parametrize("widths", [WIDE, NARROW])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
def test_the_same_values_and_derivatives(sizes: dict[str, int], widths: tuple[int, ...], rows: int) -> None:
    """Fewer rows than a block, and more; gradients by embedding rows, so that sums over rows of an id are compared."""
    embedding = embedding_of(sizes)
    trunk, batch = trunk_of(embedding.width, widths), batch_of(sizes, rows)
    expected = results(copy.deepcopy(embedding).double(), copy.deepcopy(trunk).double(), batch, by_tables=False)
    assert_close(results(embedding, trunk, batch, by_tables=True), expected)


def test_the_same_with_dropout() -> None:
    sizes = SIZES["in between"]
    embedding = embedding_of(sizes)
    trunk, batch = trunk_of(embedding.width, WIDE, (0.2, 0.1)), batch_of(sizes, 500)
    expected = results(copy.deepcopy(embedding).double(), copy.deepcopy(trunk).double(), batch, by_tables=False, seed=7)
    assert_close(results(embedding, trunk, batch, by_tables=True, seed=7), expected)


def test_no_rows() -> None:
    sizes = SIZES["in between"]
    embedding = embedding_of(sizes)
    trunk, batch = trunk_of(embedding.width, WIDE), batch_of(sizes, 0)
    assert not any(each.any() for each in results(embedding, trunk, batch, by_tables=True))


def test_a_row_has_the_same_bits_whatever_rows_go_along() -> None:
    sizes = SIZES["in between"]
    embedding, batch = embedding_of(sizes), batch_of(sizes, 1000)
    trunk = trunk_of(embedding.width, WIDE)

    def scored(part: Batch) -> Tensor:
        embedded = embedding(part)
        out: Tensor = trunk(embedded.flat, Mode(fused=True, repeats=embedding.repeats(embedded, embedded.flat)))
        return out

    with torch.no_grad():
        whole = scored(batch)
        for start, stop in ((0, 1), (3, 50), (100, 484), (100, 485), (500, 1000)):
            assert torch.equal(scored(batch.slice(start, stop)), whole[:, start:stop])


def test_the_parts_make_the_rows() -> None:
    sizes = SIZES["in between"]
    embedding, batch = embedding_of(sizes), batch_of(sizes, 200)
    embedded = embedding(batch)
    flat = embedded.flat.detach()
    repeats = embedding.repeats(embedded, flat)
    assert repeats is not None
    columns: list[Tensor] = []
    taken = 0
    for g, (start, width, first, size, at) in enumerate(repeats.groups.tolist()):
        columns.append(repeats.dense[:, taken : start - sum(c.shape[1] for c in columns[1::2])])
        taken += columns[-1].shape[1]
        vectors = repeats.vectors[at : at + size * width].reshape(size, width)
        assert len(np.unique(vectors, axis=0)) == size
        columns.append(torch.from_numpy(vectors[repeats.codes[:, g] - first]))
    assert torch.equal(torch.cat([*columns, repeats.dense[:, taken:]], 1), flat)
    readers = repeats.readers[: repeats.count]
    assert all(c in repeats.codes[r] for c, r in enumerate(readers))


def run_of(*sizes: int, gap: int | None = None) -> tuple[Field, ...]:
    """Fields of five numbers each; `gap`: before which one other columns stand."""
    shifts = [3 if gap is not None and i >= gap else 0 for i in range(len(sizes))]
    return tuple(Field(i, size, 5 * i + shift, 5) for i, (size, shift) in enumerate(zip(sizes, shifts, strict=True)))


def chosen(fields: tuple[Field, ...]) -> list[list[int]]:
    return [[field.size for field in group] for group in _cheapest(fields)]


def test_neighbours_of_few_combinations_are_taken_together() -> None:
    assert chosen(run_of(4, 3, 5)) == [[4, 3, 5]]
    assert chosen(run_of(4, 3, 5, gap=1)) == [[4], [3, 5]]  # other columns in between
    assert chosen(run_of(100, 3)) == [[100], [3]]  # 300 combinations are too many
    assert chosen(run_of(1000, 4, 9999)) == [[4]]


def test_no_more_is_looked_up_than_a_cache_holds() -> None:
    fields = run_of(*[100, 9999] * 30)
    assert len(_cheapest(fields)) == 30
    plan = _plan(fields, 5 * len(fields))
    assert plan.vectors == 500 and plan.width == 25 and plan.numbers == 2500
    first = [*run_of(*[100, 9999] * 30), Field(60, 3, 300, 5), Field(61, 4, 310, 5)]
    assert {3, 4} <= set(_plan(tuple(first), 315).groups["size"].tolist())  # which save more for each


def test_the_cheapest_choice_is_found() -> None:
    """Against all ways to cut a run into groups and fields that are in none."""

    def costs(fields: tuple[Field, ...]) -> list[int]:
        if not fields:
            return [0]
        found = [2048 * fields[0].width + rest for rest in costs(fields[1:])]
        size = 1
        for n, field in enumerate(fields, start=1):
            size *= field.size
            if size <= 128:
                own = 2 * 2048 + size * 5 * n
                found += [own + rest for rest in costs(fields[n:])]
        return found

    fields = run_of(7, 30, 2, 500, 3, 3, 90, 2)
    groups = _cheapest(fields)
    grouped = {field for group in groups for field in group}
    cost = sum(2048 * field.width for field in fields if field not in grouped)
    for group in groups:
        size = int(np.prod([field.size for field in group]))
        cost += 2 * 2048 + size * 5 * len(group)
    assert cost == min(costs(fields))


def test_repeats_of_other_rows_are_left_aside() -> None:
    sizes = SIZES["in between"]
    embedding, batch = embedding_of(sizes), batch_of(sizes, 300)
    trunk, embedded = trunk_of(embedding.width, WIDE), embedding(batch)
    flat = embedded.flat.detach()
    repeats = embedding.repeats(embedded, flat)
    other = flat.flip(0).contiguous()
    with torch.no_grad():
        found = trunk(other, Mode(fused=True, repeats=repeats))
        torch.testing.assert_close(found, trunk(other, Mode(fused=True)), rtol=0, atol=0)


@pytest.mark.parametrize("by", ["gates", "experts"])
@pytest.mark.parametrize("rows", [3, 420])
def test_second_derivatives(rows: int, by: str) -> None:
    sizes = SIZES["in between"]
    embedding, batch = embedding_of(sizes), batch_of(sizes, rows)
    trunk = trunk_of(embedding.width, WIDE)

    def second(embedding: Embedding, trunk: GatedExperts, *, by_tables: bool) -> list[Tensor]:
        flat = embedding(batch).flat.to(next(trunk.parameters()).dtype)
        inner = list(getattr(trunk, by).parameters())
        outer = [*embedding.parameters(), *trunk.parameters()]
        repeats = repeats_of(embedding._fields, batch.ids, flat) if by_tables else None
        mode = Mode(fused=by_tables, wanted=Leaves(outer), again=Leaves(inner), repeats=repeats)
        first = torch.autograd.grad(trunk(flat, mode).square().sum() / 100, inner, create_graph=True)
        of = torch.stack([each.square().sum() for each in first]).sum()
        return list(torch.autograd.grad(of, outer, allow_unused=True, materialize_grads=True))

    expected = second(copy.deepcopy(embedding).double(), copy.deepcopy(trunk).double(), by_tables=False)
    for mine, right in zip(second(embedding, trunk, by_tables=True), expected, strict=True):
        scale = right.abs().max().item() + 1e-30
        torch.testing.assert_close(mine.double() / scale, right / scale, rtol=1e-3, atol=1e-4)


def test_the_order_of_rows_changes_nothing() -> None:
    sizes = SIZES["first and last"]
    embedding = embedding_of(sizes)
    batch = batch_of(sizes, 64)
    turned = Batch(batch.ids.flip(0), batch.numeric.flip(0))
    one, other = (embedding.repeats(e, e.flat) for e in (embedding(batch), embedding(turned)))
    assert isinstance(one, Repeats) and isinstance(other, Repeats)
    assert one.count == other.count and torch.equal(one.dense, other.dense.flip(0))


def test_rows_that_something_was_added_to_have_no_repeats() -> None:
    """As vectors of new ids are to rows of unknown ones: ids tell nothing of them."""
    sizes = SIZES["in between"]
    embedding, batch = embedding_of(sizes), batch_of(sizes, 64)
    embedded = embedding(batch).leaves(trained=True).slice(2, 60)
    assert embedded.ids is not None and torch.equal(embedded.ids, batch.ids[2:60])
    assert embedding.repeats(embedded, embedded.flat) is not None
    changed = laid_over(embedded, embedded)
    assert embedding.repeats(changed, changed.flat) is None
