"""One plain training step: the gradient of a batch, micro-batch by micro-batch, on one thread or several.

Every micro-batch has its own noise, and gradients are added in the order of the micro-batches, so that the result does
not depend on the number of workers. Threads share the parameters, which nobody writes meanwhile, and nothing else; the
math library must be set to one thread in each of them, as it starts with all cores in every new one.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from funnelcast.data.batch import Batch
from funnelcast.data.loader import seed_of
from funnelcast.layers.embedding import Embedded
from funnelcast.layers.mode import Mode
from funnelcast.models.network import FunnelModel
from funnelcast.training.losses import (
    LossConfig,
    LossWeights,
    given_parent,
    observed_weight,
    rise_along_edges,
    step_losses,
)


@dataclass(frozen=True)
class Gradients:
    """Of the batch's combined loss."""

    losses: Tensor  # (T,) mean loss per step, before any task weight
    weights: Tensor  # (T,) of the rows that observed the step
    parameters: list[Tensor]
    embedded: Embedded | None  # of the embedded batch


@dataclass(frozen=True)
class Whole:
    """What the pieces of a batch must know of all of it."""

    weights: Tensor  # (T,) of the rows that observed each step, above 0
    weight: Tensor  # of the rows


@dataclass(frozen=True)
class PlainStep:
    """Ordinary training: the gradient of the batch's loss at the parameters."""

    model: FunnelModel
    loss_weights: LossWeights
    config: LossConfig
    micro_batch: int
    train_embedding: bool
    parameters: list[nn.Parameter]

    def __call__(self, batch: Batch, seed: int, workers: Executor | None) -> Gradients:
        """`seed`: of this batch's noise; `workers`: threads, or none to run here."""
        assert batch.labels is not None
        if self.model.given_parent:
            batch = replace(batch, labels=given_parent(batch.labels, self.model.parents))
        with torch.no_grad():
            embedded = self.model.embedding(batch)
        whole = _whole(batch)

        def piece(start: int) -> Gradients:
            part = batch.slice(start, start + self.micro_batch)
            x = embedded.slice(start, start + len(part)).leaves(trained=self.train_embedding)
            return self._piece(part, x, whole, seed_of(seed, start), len(part) / len(batch))

        run = workers.map if workers is not None else map
        return _add_up(run(piece, range(0, len(batch), self.micro_batch)))

    def _piece(self, batch: Batch, x: Embedded, whole: Whole, seed: int, share: float) -> Gradients:
        noise = torch.Generator(x.flat.device).manual_seed(seed)
        reach = self.model.trained_reach(x, Mode(noise=noise, fused=x.flat.device.type == "cpu"))
        assert batch.labels is not None
        losses = step_losses(reach, batch.labels, batch.weight, self.config) / whole.weights
        combined = self.loss_weights.combine(losses, share)
        if self.model.calibrator > 0:
            rise = rise_along_edges(reach, self.model.parents, batch.weight) / whole.weight
            combined = combined + self.model.calibrator * rise
        wanted = [*self.parameters, *x.tensors()] if self.train_embedding else list(self.parameters)
        grads = list(torch.autograd.grad(combined, wanted))
        own = len(self.parameters)
        embedded = x.with_tensors(grads[own:]) if self.train_embedding else None
        return Gradients(losses.detach(), whole.weights, grads[:own], embedded)


def _whole(batch: Batch) -> Whole:
    assert batch.labels is not None
    tiny = torch.finfo(torch.float32).tiny
    weights = observed_weight(batch.labels, batch.weight).clamp(min=tiny)
    weight = weights.new_tensor(len(batch)) if batch.weight is None else batch.weight.sum()
    return Whole(weights, weight.clamp(min=tiny))


def _add_up(pieces: Iterable[Gradients]) -> Gradients:
    """Of the pieces of one batch, in their order."""
    first, *rest = pieces
    losses = first.losses.clone()
    for piece in rest:
        losses += piece.losses
        for total, grad in zip(first.parameters, piece.parameters, strict=True):
            total += grad
    embedded = [piece.embedded for piece in (first, *rest) if piece.embedded is not None]
    return Gradients(losses, first.weights, first.parameters, _joined(embedded) if embedded else None)


def _joined(pieces: list[Embedded]) -> Embedded:
    """Rows one after the other; offsets are left as the first piece's, as gradients have no need of them."""
    tensors = zip(*(piece.tensors() for piece in pieces), strict=True)
    return pieces[0].with_tensors([torch.cat(each) for each in tensors])
