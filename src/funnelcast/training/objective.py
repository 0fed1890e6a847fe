"""What a network's training minimises, as a function of its parameters and of the loss weights."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from itertools import chain
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from funnelcast.data.batch import Batch
from funnelcast.layers.embedding import Embedded
from funnelcast.layers.mode import EVALUATE, Mode, is_simple
from funnelcast.models.network import FunnelModel
from funnelcast.training.fused_losses import counted, fused_losses
from funnelcast.training.losses import (
    LossConfig,
    LossWeights,
    given_parent,
    observed_weight,
    rise_along_edges,
    step_losses,
)
from funnelcast.training.selection import Selected, selected_losses

Replicated = TypeVar("Replicated", bound=nn.Module)


@dataclass(frozen=True)
class Whole:
    """What the pieces of a batch must know of all of it."""

    rows: int
    weights: Tensor  # (T,) of the rows that observed each step, above 0
    weight: Tensor  # of the rows
    selected: Selected | None = None  # with a loss given the parent next to that over all rows, or a correction

    def tensors(self) -> list[Tensor]:
        """All that there are."""
        return [self.weights, self.weight, *(self.selected or ())]

    def copied(self) -> Whole:
        """In memory of its own."""
        selected = None if self.selected is None else Selected(*(tensor.clone() for tensor in self.selected))
        return Whole(self.rows, self.weights.clone(), self.weight.clone(), selected)

    @classmethod
    def of(cls, batch: Batch) -> Whole:
        """`batch` with labels."""
        assert batch.labels is not None
        tiny = torch.finfo(torch.float32).tiny
        if batch.weight is None and batch.labels.device.type == "cpu":
            weights, weight = counted(batch.labels), torch.from_numpy(np.array(max(len(batch), tiny), np.float32))
            return cls(len(batch), weights, weight)
        weights = observed_weight(batch.labels, batch.weight).clamp(min=tiny)
        weight = weights.new_tensor(len(batch)) if batch.weight is None else batch.weight.sum()
        return cls(len(batch), weights, weight.clamp(min=tiny))


class Objective(nn.Module):
    """The loss of rows: each step's cross-entropy, added up by the loss weights, and AITM's calibrator.

    A step's loss is one over all rows, one given its parent, or the sum of both; that given the parent may be corrected
    to stand for all rows (`selected_losses`). A first step has no parent, and one loss.
    """

    def __init__(self, model: FunnelModel, loss_weights: LossWeights, config: LossConfig) -> None:
        super().__init__()
        self.model, self.loss_weights, self.config = model, loss_weights, config
        self.along: Tensor
        self.factors: Tensor
        self.register_buffer("along", torch.tensor(model.trained_along), persistent=False)
        factors = torch.ones(len(model.parents)) * torch.tensor(config.positive_weight or 1.0)
        self.register_buffer("factors", factors, persistent=False)
        self.selects = model.loss_space == "both" or config.correction != "none"
        """Whether there is a loss by `selected_losses`."""

    def labelled(self, batch: Batch) -> Batch:
        """With the labels that the model is trained on."""
        assert batch.labels is not None
        if self.model.loss_space != "given_parent" or self.selects:
            return batch
        return replace(batch, labels=given_parent(batch.labels, self.model.parents))

    def whole(self, batch: Batch) -> Whole:
        """What the pieces of a batch must know of it."""
        whole = Whole.of(batch)
        if not self.selects:
            return whole
        assert batch.labels is not None
        selected = Selected.of(batch.labels, batch.weight, self.model.parents)
        weights = whole.weights if self.model.loss_space == "both" else selected.reached
        return replace(whole, weights=weights, selected=selected)

    def forward(self, batch: Batch, x: Embedded, whole: Whole, mode: Mode) -> tuple[Tensor, Tensor]:
        """A piece's part in the mean losses (T,) of the whole, and in what is minimised. `x`: its rows embedded."""
        pooled, mode = self.model.pooled(x, mode)
        return self.of_pooled(pooled, batch, whole, mode)

    def of_pooled(self, pooled: Tensor, batch: Batch, whole: Whole, mode: Mode) -> tuple[Tensor, Tensor]:
        """The same from what pooling made of the piece; no size in it depends on what rows hold."""
        return self.of(self.model.logits_of(pooled, mode), batch, whole, mode)

    def of(self, logits: Tensor, batch: Batch, whole: Whole, mode: Mode = EVALUATE) -> tuple[Tensor, Tensor]:
        """The same from the piece's logits (B × K, T), in the mean over the K members of the model."""
        assert batch.labels is not None
        labels, weight, members = batch.labels, batch.weight, self.model.members
        if members > 1:
            labels = labels.repeat_interleave(members, 0)
            weight = None if weight is None else weight.repeat_interleave(members)
        losses, of_head = logits.new_zeros(()), None
        if not self.selects or self.model.loss_space == "both":
            if self._can_fuse(logits, mode):
                sums = fused_losses(logits, labels, weight, self.along, self.factors)
            else:
                reach = self.model.trained_reach(logits)
                sums = step_losses(reach, labels, weight, self.config)
            losses = sums / (members * whole.weights)
        if whole.selected is not None:
            parents, imputing = self.model.parents, self.loss_weights.imputing
            given, of_head = selected_losses(
                logits, labels, weight, parents, self.config, whole.selected, members, imputing
            )
            if self.model.loss_space == "both":
                given = given * self.config.given_parent_weight * given.new_tensor([each >= 0 for each in parents])
            losses = losses + given
        combined = self.loss_weights.combine(losses, len(batch) / max(whole.rows, 1))
        combined = combined if of_head is None else combined + of_head
        if self.model.calibrator > 0:
            rise = rise_along_edges(reach, self.model.parents, weight) / (members * whole.weight)
            combined = combined + self.model.calibrator * rise
        return losses, combined

    def _can_fuse(self, logits: Tensor, mode: Mode) -> bool:
        plain = self.config.focal_gamma > 0 or self.model.calibrator > 0
        return mode.fused and is_simple(logits) and not plain


def replica(module: Replicated) -> Replicated:
    """Other modules around the same tensors: one thread may put tensors in their place unseen by others."""
    tensors = {id(tensor): tensor for tensor in chain(module.parameters(), module.buffers())}
    return copy.deepcopy(module, tensors)
