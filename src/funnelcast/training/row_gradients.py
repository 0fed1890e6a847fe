"""The gradients of the rows of a table that a batch touches, from the gradient of the embedded batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from funnelcast import ops
from funnelcast.data.batch import Batch, Lists
from funnelcast.layers.embedding import Embedded, EmbeddingTable
from funnelcast.layers.lists import Bag, owners


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
        return touching[:, None].expand(-1, len(self.rows) // max(len(touching), 1)).flatten()


class Reading(NamedTuple):
    """What a batch reads of a table."""

    uses: list[_Use]
    rows: Tensor  # (U,) the distinct ones
    inverse: Tensor  # (n,) the inverse index: where the rows of all uses are among them

    @classmethod
    def of(cls, span: Span, batch: Batch) -> Reading:
        """By its ids alone."""
        uses = list(_uses(span.table, batch))
        with ops.compute(batch.ids.device):
            return cls(uses, *ops.unique(torch.cat([use.rows for use in uses])))

    def by(self, touching: Tensor) -> Reading:
        """Of the rows of the table those that `touching` (B,) of the batch read; `inverse` is -1 for others."""
        numbers = torch.full_like(self.rows, -1)
        numbers[self.inverse[self._read_by(touching)]] = 0
        found = (numbers == 0).nonzero().squeeze(1)
        numbers[found] = torch.arange(len(found), dtype=numbers.dtype, device=numbers.device)
        return Reading(self.uses, self.rows[found], numbers[self.inverse].to(self.inverse.dtype))

    def _read_by(self, touching: Tensor) -> Tensor:
        return torch.cat([use.read_by(touching) for use in self.uses])


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
    embedded batch's microbatches. `touching` (B,): whether a row of the batch counts as reading; what others read too
    gets their gradients nevertheless.
    """
    uses, rows, inverse = reading if touching is None else reading.by(touching)
    weight = span.table.weight
    sums = embedded[0].flat.new_zeros(len(rows), weight.shape[1])
    by_use = zip(*(_grads(span, microbatch) for microbatch in embedded), strict=True)
    with ops.compute(weight.device, dtype=weight.dtype):
        for use, part, grads in zip(uses, inverse.split([len(use.rows) for use in uses]), by_use, strict=True):
            if use.bag is not None:
                ops.scatter_add_bags(sums, part, torch.cat(grads), use.bag.offsets, use.bag.factors)
                continue
            for own, grad in zip(part.split([len(grad) for grad in grads]), grads, strict=True):
                ops.scatter_add(sums, own, grad)
    return rows, sums


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
