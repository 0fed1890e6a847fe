"""The gradients of rows against autograd's dense ones, by kernels and by the reference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from funnelcast import ops
from funnelcast.data.batch import Batch
from funnelcast.data.encoder import InputSpec, ListSpec
from funnelcast.layers.embedding import Embedded, Embedding
from funnelcast.layers.lists import Pool
from funnelcast.training.row_gradients import Reading, row_gradients, spans_of
from tests.layers.inputs import DIMS, INPUTS, draw_batch, lists_of, of_row
from tests.layers.reference import draw, randomise

POOLS: dict[str, dict[str, Pool | None]] = {
    "some attended": {"tags": "weighted_mean", "seen": "sum", "history": None, "visited": None},
    "all pooled": {"tags": "sum", "seen": "mean", "history": "mean", "visited": "sum"},
    "all attended": {"tags": None, "seen": None, "history": None, "visited": None},
}
TYPES = [torch.float32, torch.float64]


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Leave operations to the reference from now on."""
    return lambda: monkeypatch.setattr(ops.dispatch, "BACKENDS", [])


def embedding(pools: str, dtype: torch.dtype, copies: int = 1, frozen: str = "") -> Embedding:
    built = Embedding(INPUTS, 2, DIMS, POOLS[pools], frozen.split(), copies).to(dtype)
    randomise(built)
    return built


def gradient_of(embedded: Embedded, seed: int = 5) -> Embedded:
    """Any gradient of an embedded batch."""
    drawn = [draw(seed + i, *each.shape).to(each.dtype) for i, each in enumerate(embedded.tensors())]
    return embedded.with_tensors(drawn)


def dense(built: Embedding, batch: Batch, grad: Embedded) -> list[Tensor | None]:
    """Of the tables, by autograd."""
    built.zero_grad()
    pairs = zip(built(batch).tensors(), grad.tensors(), strict=True)
    torch.stack([(own * direction).sum() for own, direction in pairs]).sum().backward()
    return [table.weight.grad for table in built.all_tables()]


def assert_rows_are_dense(built: Embedding, batch: Batch, grad: Embedded) -> None:
    expected = dense(built, batch, grad)
    spans = spans_of(built.all_tables())
    assert [span.table for span in spans] == built.all_tables()
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-7}[grad.flat.dtype]  # a mean's 1/n is rounded to float32
    for span, right in zip(spans, expected, strict=True):
        rows, found = row_gradients(span, Reading.of(span, batch), [grad])
        assert right is not None and found.dtype == grad.flat.dtype and found.shape == (len(rows), right.shape[1])
        assert len(set(rows.tolist())) == len(rows)
        whole = torch.zeros_like(right).index_copy_(0, rows.long(), found)
        torch.testing.assert_close(whole, right, rtol=tolerance, atol=tolerance)
        reached = set(right.any(1).nonzero().flatten().tolist())
        assert reached <= set(rows.tolist()) and set(rows.tolist()) == rows_read(span.table.sizes, batch)


def rows_read(sizes: dict[str, int], batch: Batch) -> set[int]:
    """Of a table with these vocabularies, by loops over fields and lists."""
    starts, start, rows = {}, 0, set[int]()
    for name, size in sizes.items():
        starts[name], start = start, start + size
    for i, (_, vocabulary) in enumerate(INPUTS.fields):
        rows |= {starts[vocabulary] + n for n in batch.ids[:, i].tolist() if vocabulary in starts}
    for spec in INPUTS.lists:
        if spec.vocabulary in starts:
            rows |= {starts[spec.vocabulary] + n for n in batch.lists[spec.name].ids.tolist()}
    return rows


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("pools", POOLS)
def test_microbatches_are_gathered(pools: str, dtype: torch.dtype) -> None:
    """One of no row, too."""
    built, batch = embedding(pools, dtype), draw_batch(9, 3, dtype=dtype)
    grad = gradient_of(built(batch))
    ends, microbatches = [[0, *each.offsets[1:].tolist()] for each in grad.sequences], []
    for a, b in ((0, 4), (4, 4), (4, 9)):
        vectors = [e.vectors[own[a] : own[b]] for e, own in zip(grad.sequences, ends, strict=True)]
        microbatches.append(grad.with_tensors([grad.flat[a:b], *vectors]))
    for span in spans_of(built.all_tables()):
        reading = Reading.of(span, batch)
        for found, right in zip(
            row_gradients(span, reading, microbatches), row_gradients(span, reading, [grad]), strict=True
        ):
            torch.testing.assert_close(found, right, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("pools", POOLS)
def test_rows_have_the_gradients_of_autograd(pools: str, copies: int, dtype: torch.dtype) -> None:
    for rows, seed in ((1, 1), (7, 2), (40, 3)):
        built, batch = embedding(pools, dtype, copies), draw_batch(rows, seed, dtype=dtype)
        assert_rows_are_dense(built, batch, gradient_of(built(batch)))


@pytest.mark.parametrize("pools", POOLS)
def test_kernels_and_reference_add_up_the_same(pools: str, reference: Callable[[], None]) -> None:
    """In one order, so that only a fused multiplication may change the last bit; rows may come in another order."""
    built, batch = embedding(pools, torch.float32), draw_batch(40, dtype=torch.float32)
    grad, spans = gradient_of(built(batch)), spans_of(built.all_tables())
    by_kernel = [row_gradients(span, Reading.of(span, batch), [grad]) for span in spans]
    reference()
    for (rows, found), span in zip(by_kernel, spans, strict=True):
        expected_rows, expected = row_gradients(span, Reading.of(span, batch), [grad])
        assert torch.equal(rows.sort().values, expected_rows.sort().values)
        torch.testing.assert_close(found[rows.argsort()], expected[expected_rows.argsort()], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("by", ["kernels", "reference"])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("pools", POOLS)
def test_only_rows_that_some_of_the_batch_read_and_what_all_of_it_adds_to_them(
    pools: str, dtype: torch.dtype, by: str, reference: Callable[[], None]
) -> None:
    if by == "reference":
        reference()
    built, batch = embedding(pools, dtype), draw_batch(12, dtype=dtype)
    grad, touching = gradient_of(built(batch)), torch.arange(12) % 5 == 3
    for span in spans_of(built.all_tables()):
        reading = Reading.of(span, batch)
        rows, found = row_gradients(span, reading, [grad], touching)
        read = Reading.of(span, batch.take(touching.nonzero().squeeze(1))).rows
        every, expected = row_gradients(span, reading, [grad])
        kept = torch.isin(every, read)
        assert 0 < len(read) <= len(every) and reading.by(touching).inverse.dtype == reading.inverse.dtype
        assert torch.equal(rows, every[kept]) and torch.equal(found, expected[kept])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("pools", POOLS)
def test_lists_that_are_all_empty_and_no_rows(pools: str, dtype: torch.dtype) -> None:
    built, drawn = embedding(pools, dtype), draw_batch(5, dtype=dtype)
    empty = lists_of([[]] * 5, [[]] * 5, dtype=dtype)
    batch = Batch(drawn.ids, drawn.numeric, lists=dict.fromkeys(drawn.lists, empty))
    for each in (batch, draw_batch(0, dtype=dtype)):
        assert_rows_are_dense(built, each, gradient_of(built(each)))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("pool", ["mean", None])
def test_a_table_of_a_list_alone_may_have_nothing_to_move(pool: Pool | None, dtype: torch.dtype) -> None:
    inputs = InputSpec((), {"tags": 7}, (), (ListSpec("tags", "tags", "sequence", max_length=3),))
    built = Embedding(inputs, 2, {}, {"tags": pool}).to(dtype)
    batch = Batch(
        torch.empty(3, 0, dtype=torch.int32), torch.empty(3, 0, dtype=dtype), lists={"tags": lists_of([[]] * 3)}
    )
    (span,) = spans_of(built.all_tables())
    rows, grad = row_gradients(span, Reading.of(span, batch), [gradient_of(built(batch))])
    assert rows.shape == (0,) and grad.shape == (0, 2)


def test_frozen_tables_keep_their_columns_to_themselves() -> None:
    """Those after them are still read from the right place."""
    built, batch = embedding("some attended", torch.float64, frozen="users shops"), draw_batch(20)
    grad = gradient_of(built(batch))
    spans, expected = spans_of(built.all_tables()), dense(built, batch, grad)
    assert [span.table.weight.requires_grad for span in spans] == [True, True, False, True]
    assert [(span.column, span.sequence) for span in spans] == [(0, 0), (1, 0), (3, 0), (7, 1)]
    for span, right in zip(spans, expected, strict=True):
        assert (right is None) == (not span.table.weight.requires_grad)
        if right is not None:
            rows, found = row_gradients(span, Reading.of(span, batch), [grad])
            whole = torch.zeros_like(right).index_copy_(0, rows.long(), found)
            torch.testing.assert_close(whole, right, rtol=1e-7, atol=1e-7)


def test_gradients_of_a_row_add_up_over_the_places_where_it_stands() -> None:
    """Row 4 stands in two fields of the second row of the batch and twice in a list of the first."""
    inputs = InputSpec((("a", "a"), ("b", "a"), ("c", "c")), {"a": 5, "c": 3}, (), (
        ListSpec("bag", "a", "multi", weighted=True), ListSpec("seen", "c", "sequence", max_length=2)
    ))  # fmt: skip
    (table,) = Embedding(inputs, 2, {}, {"bag": "sum", "seen": None}).all_tables()
    lists = {"bag": lists_of([[4, 4], []], [[0.5, -2.0], []], dtype=torch.float32), "seen": lists_of([[], [2, 2]])}
    batch = Batch(torch.tensor([[1, 4, 2], [4, 4, 0]], dtype=torch.int32), torch.empty(2, 0), lists=lists)
    flat = torch.arange(16.0).view(2, 8)
    assert table.pooled == ["bag"] and table.attended == ["seen"]
    embedded = Embedded(
        flat, (table.elements(batch, "seen")._replace(vectors=torch.tensor([[10.0, 1.0], [20.0, 2.0]])),)
    )
    (span,) = spans_of([table])
    rows, grad = row_gradients(span, Reading.of(span, batch), [embedded])
    order = rows.argsort()
    assert rows[order].tolist() == [1, 4, 5, 7]  # c's row 0 is row 5 of the table
    assert grad[order].tolist() == [
        [0, 1], [2 + 8 + 10 - 1.5 * 6, 3 + 9 + 11 - 1.5 * 7], [12, 13], [4 + 10 + 20, 5 + 1 + 2]
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("by", ["kernel", "reference"])
def test_rows_and_bags_are_added_up_by_their_formulas(by: str, dtype: torch.dtype) -> None:
    """An index of -1 adds to none."""
    lists = draw_batch(9, dtype=torch.float32).lists["tags"]
    assert lists.weights is not None
    grad, sums = draw(0, 9, 3).float(), torch.ones(4, 3)
    index = (torch.arange(len(lists.ids)) * 7 % 5 - 1).to(dtype)
    with ops.compute(torch.device("cpu"), order=1 if by == "kernel" else 2):
        ops.scatter_add_bags(sums, index, grad, lists.offsets, lists.weights)
        ops.scatter_add(sums, index[:9], grad)
    expected, at = np.ones((4, 3)), iter(index.tolist())
    for row in range(9):
        for weight in of_row(lists, row)[1]:
            if (place := next(at)) >= 0:
                expected[place] += weight * grad[row].numpy()
    for row, place in enumerate(index[:9].tolist()):
        if place >= 0:
            expected[place] += grad[row].numpy()
    np.testing.assert_allclose(sums, expected, rtol=1e-5, atol=1e-5)
