"""The gradients of the rows of a table that a batch touches, from the gradient of the embedded batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from funnelcast.compiled import compiled
from funnelcast.data.batch import Batch, Lists
from funnelcast.layers.embedding import Embedded, EmbeddingTable
from funnelcast.layers.lists import Bag, owners
from funnelcast.layers.mode import is_simple
from funnelcast.training.distinct import distinct


class Span(NamedTuple):
    """A table, and where its part of an embedded batch begins."""

    table: EmbeddingTable
    column: int  # of `Embedded.flat`
    sequence: int  # of `Embedded.sequences`


class _Part(NamedTuple):
    """One use of a table by a batch."""

    rows: Tensor  # (n,) of the table
    grad: Tensor  # (m, E)
    reading: Lists | None  # lists of the batch that `rows` are of, one after the other; none for ids
    bag: Bag | None = None
    """How rows make up the vectors that `grad` is of; none if one by one, with m = n."""

    def read_by(self, touching: Tensor) -> Tensor:
        """(n,) whether that row of the batch which reads each of `rows` is one of `touching` (B,)."""
        if self.reading is not None:
            return touching[owners(self.reading.offsets, len(self.rows))]
        return touching.repeat_interleave(len(self.rows) // max(len(touching), 1))


def spans_of(tables: Sequence[EmbeddingTable]) -> list[Span]:
    """All tables of an embedding, in its order."""
    spans, column, sequence = [], 0, 0
    for table in tables:
        spans.append(Span(table, column, sequence))
        column, sequence = column + table.width, sequence + len(table.attended)
    return spans


def row_gradients(
    span: Span, batch: Batch, embedded: Embedded, touching: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The distinct rows (U,) of the table that a batch reads, and their gradients (U, E), from the gradient of the
    embedded batch. `touching` (B,): whether a row of the batch counts as reading; what others read too gets their
    gradients nevertheless.
    """
    parts = list(_parts(span, batch, embedded))
    rows, places = distinct(torch.cat([part.rows for part in parts]))
    sums = embedded.flat.new_zeros(len(rows), span.table.weight.shape[1])
    for part, place in zip(parts, places.split([len(part.rows) for part in parts]), strict=True):
        _add(sums, place, part)
    if touching is None:
        return rows, sums
    readings = torch.zeros(len(rows), dtype=torch.int32, device=rows.device)
    readings.index_add_(0, places, torch.cat([part.read_by(touching) for part in parts]).int())
    read = readings.nonzero().squeeze(1)
    return rows.index_select(0, read), sums.index_select(0, read)


def _parts(span: Span, batch: Batch, embedded: Embedded) -> Iterator[_Part]:
    table, width = span.table, span.table.weight.shape[1]
    column = span.column
    if table.fields:
        own = embedded.flat[:, column : column + len(table.fields) * width]
        yield _Part(table.rows(batch.ids).flatten(), own.reshape(-1, width), None)
        column += len(table.fields) * width
    for name in table.pooled:
        grad = embedded.flat[:, column : column + width]
        yield _Part(table.list_rows(batch, name), grad, batch.lists[name], table.bag(batch, name))
        column += width
    for i, name in enumerate(table.attended):
        vectors = embedded.sequences[span.sequence + i].vectors
        yield _Part(table.list_rows(batch, name), vectors, batch.lists[name])


def _add(sums: Tensor, place: Tensor, part: _Part) -> None:
    if part.bag is None:
        if is_simple(part.grad):
            add_up(sums.numpy(), place.numpy(), part.grad.numpy())
        else:
            sums.index_add_(0, place, part.grad)
    elif is_simple(part.grad):
        bag = part.bag
        add_bags(sums.numpy(), place.numpy(), part.grad.numpy(), bag.offsets.numpy(), bag.factors.numpy())
    else:
        factors = part.bag.factors.to(part.grad.dtype)[:, None]
        sums.index_add_(0, place, factors * part.grad[owners(part.bag.offsets, len(factors))])


@compiled
def add_up(sums: Any, place: Any, grad: Any) -> None:
    """Adds each row of grad (n, E) to the row of sums (U, E) that place (n,) says."""
    for i in range(len(place)):
        row, own = sums[place[i]], grad[i]
        for j in range(len(own)):
            row[j] += own[j]


@compiled
def add_bags(sums: Any, place: Any, grad: Any, offsets: Any, factors: Any) -> None:
    """Adds to the row place[k] of sums (U, E) factors[k] times row i of grad (B, E), for k from offsets[i] to
    offsets[i + 1]."""
    for i in range(len(grad)):
        own = grad[i]
        for k in range(offsets[i], offsets[i + 1]):
            row = sums[place[k]]
            for j in range(len(own)):
                row[j] += factors[k] * own[j]
