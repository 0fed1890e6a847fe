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


class _Use(NamedTuple):
    """One use of a table by a batch."""

    rows: Tensor  # (n,) of the table
    lists: Lists | None = None  # of the batch that `rows` are of, one after the other; none for ids
    bag: Bag | None = None
    """How rows make up the vectors that are embedded; none if one by one."""

    def read_by(self, touching: Tensor) -> Tensor:
        """(n,) whether that row of the batch which reads each of `rows` is one of `touching` (B,)."""
        if self.lists is not None:
            return touching[owners(self.lists.offsets, len(self.rows))]
        return touching.repeat_interleave(len(self.rows) // max(len(touching), 1))


class Reading(NamedTuple):
    """What a batch reads of a table."""

    uses: list[_Use]
    rows: Tensor  # (U,) the distinct ones
    places: Tensor  # (n,) where the rows of all uses are among them

    @classmethod
    def of(cls, span: Span, batch: Batch) -> Reading:
        """By its ids alone."""
        uses = list(_uses(span.table, batch))
        return cls(uses, *distinct(torch.cat([use.rows for use in uses])))


def spans_of(tables: Sequence[EmbeddingTable]) -> list[Span]:
    """All tables of an embedding, in its order."""
    spans, column, sequence = [], 0, 0
    for table in tables:
        spans.append(Span(table, column, sequence))
        column, sequence = column + table.width, sequence + len(table.attended)
    return spans


def row_gradients(
    span: Span, reading: Reading, embedded: Sequence[Embedded], touching: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The distinct rows (U,) of the table that a batch reads, and their gradients (U, E), from the gradients of the
    embedded batch, piece by piece. `touching` (B,): whether a row of the batch counts as reading; what others read too
    gets their gradients nevertheless.
    """
    uses, rows, places = reading
    sums = embedded[0].flat.new_zeros(len(rows), span.table.weight.shape[1])
    by_use = zip(*(_grads(span, piece) for piece in embedded), strict=True)
    for use, place, grads in zip(uses, places.split([len(use.rows) for use in uses]), by_use, strict=True):
        if use.bag is not None:
            _add_bags(sums, place, torch.cat(grads), use.bag)
            continue
        for own, grad in zip(place.split([len(grad) for grad in grads]), grads, strict=True):
            _add(sums, own, grad)
    if touching is None:
        return rows, sums
    readings = torch.zeros(len(rows), dtype=torch.int32, device=rows.device)
    readings.index_add_(0, places, torch.cat([use.read_by(touching) for use in uses]).int())
    read = readings.nonzero().squeeze(1)
    return rows.index_select(0, read), sums.index_select(0, read)


def _uses(table: EmbeddingTable, batch: Batch) -> Iterator[_Use]:
    if table.fields:
        yield _Use(table.rows(batch.ids).flatten())
    for name in table.pooled:
        yield _Use(table.list_rows(batch, name), batch.lists[name], table.bag(batch, name))
    for name in table.attended:
        yield _Use(table.list_rows(batch, name), batch.lists[name])


def _grads(span: Span, embedded: Embedded) -> Iterator[Tensor]:
    """Of what each use embedded, (m, E)."""
    table, column, width = span.table, span.column, span.table.weight.shape[1]
    if table.fields:
        yield embedded.flat[:, column : column + len(table.fields) * width].reshape(-1, width)
        column += len(table.fields) * width
    for _ in table.pooled:
        yield embedded.flat[:, column : column + width]
        column += width
    for i in range(len(table.attended)):
        yield embedded.sequences[span.sequence + i].vectors


def _add(sums: Tensor, place: Tensor, grad: Tensor) -> None:
    if is_simple(grad):
        add_up(sums.numpy(), place.numpy(), grad.numpy())
    else:
        sums.index_add_(0, place, grad)


def _add_bags(sums: Tensor, place: Tensor, grad: Tensor, bag: Bag) -> None:
    if is_simple(grad):
        add_bags(sums.numpy(), place.numpy(), grad.numpy(), bag.offsets.numpy(), bag.factors.numpy())
    else:
        factors = bag.factors.to(grad.dtype)[:, None]
        sums.index_add_(0, place, factors * grad[owners(bag.offsets, len(factors))])


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
