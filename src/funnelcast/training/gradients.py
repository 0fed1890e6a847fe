"""What a training step hands to the optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from funnelcast.data.batch import Batch
from funnelcast.layers.embedding import Embedded
from funnelcast.training.row_gradients import Reading


class AdaptationMetrics(NamedTuple):
    """What adapting did: means over tasks."""

    before: Tensor
    """(T,) losses of the query rows at the parameters that adapt, without dropout."""
    after: Tensor
    """The same at the adapted ones."""
    through: float
    """Size of the outer gradient's part that comes through the inner steps, over that of all of it."""


class MetaMetrics(NamedTuple):
    """What a meta step says of its tasks."""

    tasks: int
    lacking: Tensor
    """(T,) tasks whose support has no row that reached the step."""
    adaptation: AdaptationMetrics | None
    """If requested."""


@dataclass(frozen=True)
class Gradients:
    """Of the batch's combined loss."""

    rows: Batch
    losses: Tensor  # (T,) mean loss per step, before any task weight
    weights: Tensor  # (T,) of the rows that observed the step
    by_microbatch: Sequence[list[Tensor]]  # of the parameters, for each microbatch that the batch was cut into
    embedded_by_microbatch: Sequence[Embedded]  # of the embedded batch; none where that is not trained
    touching: Tensor | None = None  # (B,) whether a row may move the embedding; none for all
    readings: Sequence[Reading] | None = None  # of the tables by the batch, where they were requested
    metrics: MetaMetrics | None = None

    @property
    def parameters(self) -> list[Tensor]:
        """Of the batch as one, added up in the microbatches' order."""
        return [sum_of(own) for own in zip(*self.by_microbatch, strict=True)]

    @property
    def embedded(self) -> Embedded | None:
        """Of the embedded batch, as one."""
        return joined(self.embedded_by_microbatch) if self.embedded_by_microbatch else None


def add_up(batch: Batch, microbatches: Iterable[Gradients], readings: Sequence[Reading] | None = None) -> Gradients:
    """Of the microbatches of a batch, in their order."""
    first, *rest = microbatches
    losses, every = first.losses.clone(), (first, *rest)
    for microbatch in rest:
        losses += microbatch.losses
    by_microbatch = [own for microbatch in every for own in microbatch.by_microbatch]
    embedded = [own for microbatch in every for own in microbatch.embedded_by_microbatch]
    return Gradients(batch, losses, first.weights, by_microbatch, embedded, readings=readings)


def joined(microbatches: Sequence[Embedded]) -> Embedded:
    """Rows one after the other; offsets are left as the first microbatch's, as gradients have no need of them."""
    if len(microbatches) == 1:
        return microbatches[0]
    tensors = zip(*(microbatch.tensors() for microbatch in microbatches), strict=True)
    return microbatches[0].with_tensors([torch.cat(each) for each in tensors])


def sum_of(terms: Sequence[Tensor]) -> Tensor:
    """The sum of one tensor or more, all of one shape."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
