"""Deduplicated inputs: a first layer by tables of few vectors against the plain one in float64."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from funnelcast import ops
from funnelcast.data.batch import Batch
from funnelcast.data.encoder import InputSpec
from funnelcast.kernels.cpu.dedup import Field, _FirstLayer, _neighbours, _spans, deduplicated
from funnelcast.layers.banks import MLPBank
from funnelcast.layers.embedding import Embedded, Embedding
from funnelcast.layers.gates import GateBank, GatedExperts, own_and_shared
from funnelcast.training.overlay import laid_over
from tests.layers.reference import randomise

CPU = torch.device("cpu")
SIZES = {
    "in between": {"user": 3000, "age": 9, "sex": 3, "item": 2500, "shop": 40, "city": 5},
    "first and last": {"sex": 3, "age": 9, "user": 3000, "shop": 100},
    "nothing else": {"sex": 3, "age": 9, "colour": 40},
}
MIXED = SIZES["in between"]
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


def trunk_of(width: int, widths: tuple[int, ...]) -> GatedExperts:
    trunk = GatedExperts(MLPBank(4, width, widths), GateBank(width, own_and_shared(2, 1, 2)))
    randomise(trunk, 1, scale=0.3)
    return trunk


def known(embedding: Embedding, embedded: Embedded) -> Tensor:
    """The rows, of which it is known what repeats."""
    return ops.deduplicate(embedded.flat, embedded.ids, embedding.id_fields)


def results(embedding: Embedding, part: Any, batch: Batch, **named: Any) -> list[Tensor]:
    """What a layer makes of a batch, and its gradients by all parameters, the rows of the embedding included."""
    dtype = next(part.parameters()).dtype
    with ops.compute(CPU, dtype=dtype):
        embedded = embedding(Batch(batch.ids, batch.numeric.to(dtype)))
        out = part(known(embedding, embedded), **named)
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64).to(dtype)
    parameters = [*embedding.parameters(), *part.parameters()]
    return [out.detach(), *torch.autograd.grad((out * direction).sum(), parameters)]


def check(embedding: Embedding, part: Any, batch: Batch, seed: int | None = None) -> None:
    """Against layers in float64, which know nothing of what repeats."""

    def key() -> dict[str, Any]:
        return {} if seed is None else {"key": ops.DropoutKey(torch.tensor([seed]), 10**9)}

    expected = results(copy.deepcopy(embedding).double(), copy.deepcopy(part).double(), batch, **key())
    for mine, right in zip(results(embedding, part, batch, **key()), expected, strict=True):
        torch.testing.assert_close(mine.double(), right, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("rows", [1, 7, 300, 901])
@pytest.mark.parametrize("widths", [WIDE, NARROW])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
def test_the_same_values_and_derivatives(sizes: dict[str, int], widths: tuple[int, ...], rows: int) -> None:
    """Fewer rows than a block, and more; gradients by embedding rows, so that sums over rows of an id are compared."""
    embedding = embedding_of(sizes)
    check(embedding, trunk_of(embedding.width, widths), batch_of(sizes, rows))


@pytest.mark.parametrize("slope", [0.0, 0.2])
@pytest.mark.parametrize("rates", [(), (0.2, 0.1)])
def test_the_same_with_dropout_and_a_slope(rates: tuple[float, ...], slope: float) -> None:
    embedding = embedding_of(MIXED)
    bank = MLPBank(3, embedding.width, WIDE, rates, slope)
    randomise(bank, 1, scale=0.3)
    check(embedding, bank, batch_of(MIXED, 500), seed=7)


def test_a_wide_layer_reads_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a narrow one, or one that does not fill registers, the rows as they are."""
    embedding, read = embedding_of(MIXED), list[int]()
    forward = _FirstLayer.forward

    def watched(ctx: Any, x: Tensor, *more: Any) -> Any:
        read.append(len(x))
        return forward(ctx, x, *more)

    monkeypatch.setattr(_FirstLayer, "forward", watched)
    for widths, expected in ((WIDE, 1), (NARROW, 0), ((8,), 0)):
        read.clear()
        results(embedding, trunk_of(embedding.width, widths), batch_of(MIXED, 30))
        assert len(read) == expected


def test_no_rows() -> None:
    embedding = embedding_of(MIXED)
    assert not any(each.any() for each in results(embedding, trunk_of(embedding.width, WIDE), batch_of(MIXED, 0)))


def test_a_row_has_the_same_bits_whatever_rows_go_along() -> None:
    embedding, batch = embedding_of(MIXED), batch_of(MIXED, 1000)
    trunk = trunk_of(embedding.width, WIDE)

    def scored(part: Batch) -> Tensor:
        out: Tensor = trunk(known(embedding, embedding(part)))
        return out

    with torch.no_grad(), ops.compute(CPU):
        whole = scored(batch)
        for start, stop in ((0, 1), (3, 50), (100, 484), (100, 485), (500, 1000)):
            assert torch.equal(scored(batch.slice(start, stop)), whole[:, start:stop])


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
def test_the_parts_make_the_product(sizes: dict[str, int]) -> None:
    """That of columns of no group and what the indices read of the tables are x W, and so are the gradients."""
    embedding, batch = embedding_of(sizes), batch_of(sizes, 200)
    with ops.compute(CPU):
        x = known(embedding, embedding(batch))
    found = deduplicated(x)
    assert found is not None
    source = torch.Generator().manual_seed(0)
    weight = torch.randn(3, x.shape[1], 4, generator=source).requires_grad_()
    dense, of_dense, tables = found.first_layer(x, weight)
    assert 0 < dense.shape[1] == of_dense.shape[1] < x.shape[1] and tables.shape[1] > int(found.inverse.max())
    product = dense @ of_dense + tables[:, found.inverse.long()].sum(2)
    torch.testing.assert_close(product, x @ weight, rtol=1e-5, atol=1e-5)
    direction = torch.randn(product.shape, generator=source)
    leaves = [*embedding.parameters(), weight]
    mine = torch.autograd.grad((product * direction).sum(), leaves, retain_graph=True)
    for own, right in zip(mine, torch.autograd.grad(((x @ weight) * direction).sum(), leaves), strict=True):
        torch.testing.assert_close(own, right, rtol=1e-4, atol=1e-4)


def test_each_combination_of_ids_has_a_representative_row() -> None:
    embedding, batch = embedding_of(MIXED), batch_of(MIXED, 200)
    with ops.compute(CPU):
        found = deduplicated(known(embedding, embedding(batch)))
    assert found is not None
    inverse, representatives = found._unique
    for index, row in enumerate(representatives.tolist()):
        assert index in inverse[row] or (row == 0 and index not in inverse)


def run_of(*sizes: int, gap: int | None = None) -> tuple[Field, ...]:
    """Fields of five columns each; `gap`: before which one other columns stand."""
    shifts = [3 if gap is not None and i >= gap else 0 for i in range(len(sizes))]
    return tuple((i, size, 5 * i + shift, 5) for i, (size, shift) in enumerate(zip(sizes, shifts, strict=True)))


def grouped(fields: tuple[Field, ...]) -> list[list[int]]:
    return [[size for _, size, _, _ in group] for group in _neighbours(fields)]


def test_neighbours_of_few_combinations_are_taken_together() -> None:
    assert grouped(run_of(4, 3, 5)) == [[4, 3, 5]]
    assert grouped(tuple(reversed(run_of(4, 3, 5)))) == [[4, 3, 5]]  # by columns
    assert grouped(run_of(4, 3, 5, gap=1)) == [[4], [3, 5]]  # other columns in between
    assert grouped(run_of(100, 3)) == [[100], [3]]  # 300 combinations are too many
    assert grouped(()) == []


@pytest.mark.parametrize("fields", [run_of(4, 3, 5), run_of(4, 9999, 5), run_of(*[100, 9999] * 30)], ids=str)
def test_spans_are_all_columns_once_and_combinations_within_the_limit(fields: tuple[Field, ...]) -> None:
    columns = 5 * len(fields) + 1
    spans, end = _spans(fields, columns), 0
    for span in spans:
        assert span.start == end and span.width > 0
        end += span.width
        assert not span.group or span.group[0][2] == span.start
    assert end == columns
    assert sum(int(np.prod([size for _, size, _, _ in span.group])) for span in spans if span.group) <= 512


def test_what_saves_most_for_each_combination_is_looked_up() -> None:
    fields = (*run_of(*[100, 9999] * 30), (60, 3, 300, 5), (61, 4, 310, 5))
    groups = [span.group for span in _spans(fields, 315) if span.group]
    assert [[size for _, size, _, _ in group] for group in groups] == [[100]] * 5 + [[3], [4]]


def test_nothing_is_looked_up_where_nothing_is_saved() -> None:
    assert _spans(run_of(9999, 5000), 10) == () == _spans((), 7)
    assert _spans(((0, 3, 0, 1),), 9) == ()  # one column is read faster than an index


def test_a_product_has_some_columns() -> None:
    spans = _spans(run_of(4, 9, 90), 15)
    assert [bool(span.group) for span in spans].count(False) == 1
    assert _spans(run_of(4), 5) == ()


def test_other_tensors_know_nothing_of_what_repeats() -> None:
    """Rows in another order, or new tensors with the same elements."""
    embedding, batch = embedding_of(MIXED), batch_of(MIXED, 300)
    with ops.compute(CPU):
        x = known(embedding, embedding(batch))
    assert deduplicated(x) is not None
    assert all(deduplicated(other) is None for other in (x.flip(0), x.detach(), x[:9], x.clone()))


@pytest.mark.parametrize("order", [0, 1, 2])
def test_without_kernels_nothing_is_deduplicated(order: int) -> None:
    embedding, batch = embedding_of(MIXED), batch_of(MIXED, 30)
    with ops.compute(CPU, order=order):
        embedded = embedding(batch)
        x = known(embedding, embedded)
        assert x is embedded.flat and (deduplicated(x) is None) == (order == 2)
        assert deduplicated(ops.deduplicate(x.clone(), None, embedding.id_fields)) is None


def test_rows_that_something_was_added_to_have_no_repeats() -> None:
    """As vectors of new ids are to rows of unknown ones: ids tell nothing of them."""
    embedding, batch = embedding_of(MIXED), batch_of(MIXED, 64)
    embedded = embedding(batch).leaves(trained=True).slice(2, 60)
    assert embedded.ids is not None and torch.equal(embedded.ids, batch.ids[2:60])
    with ops.compute(CPU):
        assert deduplicated(known(embedding, embedded)) is not None
        assert deduplicated(known(embedding, laid_over(embedded, embedded))) is None
