"""What a training step hands to the optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from funnelcast.data.batch import Batch
from funnelcast.layers.embedding import Embedded


class Watched(NamedTuple):
    """What adapting did: means over tasks."""

    before: Tensor
    """(T,) losses of the query rows at the parameters that adapt, without dropout."""
    after: Tensor
    """The same at the adapted ones."""
    through: float
    """Size of the outer gradient's part that comes through the inner steps, over that of all of it."""


class Told(NamedTuple):
    """What a meta step says of its tasks."""

    tasks: int
    lacking: Tensor
    """(T,) tasks whose support has no row that reached the step."""
    watched: Watched | None
    """If asked for."""


@dataclass(frozen=True)
class Gradients:
    """Of the batch's combined loss."""

    rows: Batch
    losses: Tensor  # (T,) mean loss per step, before any task weight
    weights: Tensor  # (T,) of the rows that observed the step
    parameters: list[Tensor]
    embedded: Embedded | None  # of the embedded batch
    touching: Tensor | None = None  # (B,) whether a row may move the embedding; none for all
    told: Told | None = None


def add_up(batch: Batch, pieces: Iterable[Gradients]) -> Gradients:
    """Of the pieces of a batch, in their order."""
    first, *rest = pieces
    losses = first.losses.clone()
    for piece in rest:
        losses += piece.losses
        if first.parameters:
            torch._foreach_add_(first.parameters, piece.parameters)
    embedded = [piece.embedded for piece in (first, *rest) if piece.embedded is not None]
    return Gradients(batch, losses, first.weights, first.parameters, joined(embedded) if embedded else None)


def joined(pieces: Sequence[Embedded]) -> Embedded:
    """Rows one after the other; offsets are left as the first piece's, as gradients have no need of them."""
    if len(pieces) == 1:
        return pieces[0]
    tensors = zip(*(piece.tensors() for piece in pieces), strict=True)
    return pieces[0].with_tensors([torch.cat(each) for each in tensors])
