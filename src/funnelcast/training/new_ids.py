"""Rows of new ids that learn: the state of a network's embedding while it adapts."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from funnelcast.data.batch import Batch
from funnelcast.data.encoder import InputSpec
from funnelcast.layers.embedding import Embedded, Embedding, EmbeddingTable
from funnelcast.layers.hashing import HashedIds
from funnelcast.training.inner import Rows, Tensors
from funnelcast.training.overlay import laid_over, overlay, without_first
from funnelcast.training.row_gradients import Reading, row_gradients, spans_of

Start = Literal["unknown", "mean", "none"]


class Looked(NamedTuple):
    """Rows, looked up in the network's own embedding."""

    batch: Batch
    x: Embedded
    new: Batch | None


class Lookup:
    """The embedding of a network with rows of new ids over it. Their state is a tensor (rows, E) per table."""

    def __init__(self, embedding: Embedding | HashedIds, inputs: InputSpec | None) -> None:
        """`inputs`: of the new ids; none for no state."""
        self.base, tables = embedding, embedding.all_tables()
        self.over = overlay(tables, inputs) if inputs is not None and tables else None
        self.spans = spans_of(self.over.all_tables() if self.over is not None else [])

    @torch.no_grad()
    def look_up(self, batch: Batch, new: Batch | None) -> Looked:
        """`new`: the same rows by their new ids."""
        return Looked(batch, self.base(batch), new)

    @torch.no_grad()
    def rows(self, looked: Looked, state: Tensors) -> Rows:
        """The rows with a state of their new ids; without dropout."""
        if self.over is None or looked.new is None:
            return Rows(looked.batch, looked.x, None)
        for span, rows in zip(self.spans, state, strict=True):
            span.table.weight.data = rows
        return Rows(looked.batch, laid_over(looked.x, self.over(looked.new)), None)

    def gradient(self, looked: Looked, embedded: Embedded | None) -> Tensors:
        """By the state, from that of the embedded rows; 0 for what the network knows already."""
        if looked.new is None or embedded is None:
            return []
        found = []
        for span in self.spans:
            rows, sums = row_gradients(span, Reading.of(span, looked.new), [embedded])
            grad = torch.zeros_like(span.table.weight.detach()).index_copy_(0, rows.long(), sums)
            found.append(without_first(grad, span.table.sizes))
        return found

    def nothing(self) -> Tensors:
        """The state of the network itself, to which a new id is an unknown one."""
        return [torch.zeros_like(span.table.weight.detach()) for span in self.spans]

    @torch.no_grad()
    def start(self, looked: Looked, how: Start) -> Tensors:
        """The state before the first step: as unknown, or where `looked` has the id, the mean of the known ones."""
        state = self.nothing()
        if how == "mean" and looked.new is not None:
            for span, rows, own in zip(self.spans, state, self.base.all_tables(), strict=True):
                means = [_to_mean(block, len(new)) for block, new in zip(_parts(own), _parts(span.table), strict=True)]
                read = Reading.of(span, looked.new).rows.long()
                rows[read] = torch.cat(means)[read]
        return state

    def named(self, state: Tensors) -> dict[str, Tensor]:
        """The rows (U, E) of each vocabulary's new ids, where it has some."""
        named: dict[str, Tensor] = {}
        for span, rows in zip(self.spans, state, strict=True):
            named |= dict(zip(span.table.sizes, rows.split(list(span.table.sizes.values())), strict=True))
        return {name: rows[1:] for name, rows in named.items() if len(rows) > 1}


def _parts(table: EmbeddingTable) -> list[Tensor]:
    return list(table.blocks().values())


def _to_mean(known: Tensor, rows: int) -> Tensor:
    """(rows, E): from the row of unknown ids to the mean of the known ones; 0 in the first row, or if none is known."""
    way = known[1:].mean(0) - known[0] if len(known) > 1 else torch.zeros_like(known[0])
    return torch.cat([torch.zeros_like(way)[None], way.expand(rows - 1, -1)])
