"""One plain training step: the gradient of a batch, micro-batch by micro-batch, on one thread or several.

Every micro-batch has its own noise, and gradients are added in the order of the micro-batches, so that the result does
not depend on the number of workers. Threads share the parameters, which nobody writes meanwhile, and nothing else; the
math library must be set to one thread in each of them, as it starts with all cores in every new one.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from funnelcast.data.batch import Batch
from funnelcast.data.loader import seed_of
from funnelcast.layers.mode import Mode
from funnelcast.models.base import FunnelModel
from funnelcast.training.losses import LossConfig, LossWeights, observed_weight, step_losses


@dataclass(frozen=True)
class Gradients:
    """Of the batch's combined loss."""

    losses: Tensor  # (T,) mean loss per step, before any task weight
    weights: Tensor  # (T,) of the rows that observed the step
    parameters: list[Tensor]
    embedded: Tensor | None  # (B, D), of the embedded batch


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
        with torch.no_grad():
            embedded = self.model.embedding(batch)
        total = observed_weight(batch.labels, batch.weight).clamp(min=torch.finfo(torch.float32).tiny)

        def piece(start: int) -> Gradients:
            part = batch.slice(start, start + self.micro_batch)
            x = embedded[start : start + self.micro_batch].detach().requires_grad_(self.train_embedding)
            return self._piece(part, x, total, seed_of(seed, start), len(part) / len(batch))

        run = workers.map if workers is not None else map
        return _add_up(run(piece, range(0, len(batch), self.micro_batch)))

    def _piece(self, batch: Batch, x: Tensor, total: Tensor, seed: int, share: float) -> Gradients:
        noise = torch.Generator(x.device).manual_seed(seed)
        reach = self.model.network(x, Mode(noise=noise, fused=x.device.type == "cpu"))
        assert batch.labels is not None
        losses = step_losses(reach, batch.labels, batch.weight, self.config) / total
        combined = self.loss_weights.combine(losses, share)
        wanted = [*self.parameters, x] if self.train_embedding else list(self.parameters)
        grads = list(torch.autograd.grad(combined, wanted))
        embedded = grads.pop() if self.train_embedding else None
        return Gradients(losses.detach(), total, grads, embedded)


def _add_up(pieces: Iterable[Gradients]) -> Gradients:
    """Of the pieces of one batch, in their order."""
    first, *rest = pieces
    losses = first.losses.clone()
    for piece in rest:
        losses += piece.losses
        for total, grad in zip(first.parameters, piece.parameters, strict=True):
            total += grad
    embedded = [piece.embedded for piece in (first, *rest) if piece.embedded is not None]
    return Gradients(losses, first.weights, first.parameters, torch.cat(embedded) if embedded else None)
