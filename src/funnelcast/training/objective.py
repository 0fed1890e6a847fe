"""What a network's training minimises, as a function of its parameters and of the loss weights."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from itertools import chain
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from funnelcast import ops
from funnelcast.data.batch import Batch
from funnelcast.layers.embedding import Embedded
from funnelcast.models.network import FunnelModel
from funnelcast.ops import DropoutKey
from funnelcast.training.losses import LossConfig, LossWeights, given_parent, observed_weight
from funnelcast.training.selection import Selected, selected_losses

Replicated = TypeVar("Replicated", bound=nn.Module)


class BatchTotals(NamedTuple):
    """What the microbatches of a batch must know of all of it."""

    rows: int
    weights: Tensor  # (T,) of the rows that observed each step, above 0
    weight: Tensor  # of the rows
    selected: Selected | None = None  # with a loss given the parent next to that over all rows, or a correction

    @classmethod
    def of(cls, batch: Batch) -> BatchTotals:
        """`batch` with labels."""
        assert batch.labels is not None
        tiny = torch.finfo(torch.float32).tiny
        observed = observed_weight(batch.labels, batch.weight)
        weights = observed if batch.weight is not None else observed.to(torch.float32)
        weight = weights.new_tensor(len(batch)) if batch.weight is None else batch.weight.sum()
        return cls(len(batch), weights.clamp(min=tiny), weight.clamp(min=tiny))


class Microbatch(NamedTuple):
    """Rows that go through the network together: all that the objective reads of them."""

    x: Embedded
    """Looked up."""
    labels: Tensor  # (B, T) uint8
    weight: Tensor | None  # (B,)
    totals: BatchTotals
    seeds: Tensor | None = None  # (blocks,) int64, of dropout; none for no dropout
    seed_rows: int = sys.maxsize
    """Rows of a block."""

    @property
    def key(self) -> DropoutKey | None:
        """Of its dropout masks, from the first layer on."""
        return None if self.seeds is None else DropoutKey(self.seeds, self.seed_rows)

    def leaves(self, *, trained: bool) -> Microbatch:
        """With x cut off from what made it; `trained`: a gradient by it is needed."""
        return self._replace(x=self.x.leaves(trained=trained))

    def slice(self, start: int, stop: int) -> Microbatch:
        """Rows start … stop - 1."""
        weight = None if self.weight is None else self.weight[start:stop]
        return self._replace(x=self.x.slice(start, stop), labels=self.labels[start:stop], weight=weight)


class Objective(nn.Module):
    """The loss of rows: each step's cross-entropy, added up by the loss weights, and the model's penalties.

    A step's loss is one over all rows, one given its parent, or the sum of both; that given the parent may be corrected
    to stand for all rows (`selected_losses`). A first step has no parent, and one loss.
    """

    def __init__(self, model: FunnelModel, loss_weights: LossWeights, config: LossConfig) -> None:
        super().__init__()
        self.model, self.loss_weights, self.config = model, loss_weights, config
        self.factors: Tensor
        self.register_buffer("factors", config.factors(len(model.parents)), persistent=False)
        self.selects = model.loss_space == "both" or config.correction != "none"
        """Whether there is a loss by `selected_losses`."""

    def labelled(self, batch: Batch) -> Batch:
        """With the labels that the model is trained on."""
        assert batch.labels is not None
        if self.model.loss_space != "given_parent" or self.selects:
            return batch
        return replace(batch, labels=given_parent(batch.labels, self.model.parents))

    def totals(self, batch: Batch) -> BatchTotals:
        """What the microbatches of a batch must know of it."""
        totals = BatchTotals.of(batch)
        if not self.selects:
            return totals
        assert batch.labels is not None
        selected = Selected.of(batch.labels, batch.weight, self.model.parents)
        weights = totals.weights if self.model.loss_space == "both" else selected.reached
        return totals._replace(weights=weights, selected=selected)

    def forward(self, rows: Microbatch) -> tuple[Tensor, Tensor]:
        """Return the rows' part in the mean losses (T,) of the batch, and in what is minimised."""
        return self.of(self.model.logits(rows.x, rows.key), rows)

    def of_pooled(self, pooled: Tensor, rows: Microbatch, key: DropoutKey | None) -> tuple[Tensor, Tensor]:
        """The same from what pooling made of the rows, with the key that it sampled from; no size in it depends on
        what rows hold."""
        return self.of(self.model.logits_of(pooled, key), rows)

    def of(self, logits: Tensor, rows: Microbatch) -> tuple[Tensor, Tensor]:
        """The same from the rows' logits (B × K, T), in the mean over the K members of the model."""
        model, config, totals, members = self.model, self.config, rows.totals, self.model.members
        labels, weight, of_head = rows.labels, rows.weight, None
        if members > 1:
            labels = labels.repeat_interleave(members, 0)
            weight = None if weight is None else weight.repeat_interleave(members)
        losses = logits.new_zeros(())
        if not self.selects or model.loss_space == "both":
            sums = ops.funnel_losses(logits, labels, weight, model.trained_along, self.factors, config.focal_gamma)
            losses = sums / (members * totals.weights)
        if totals.selected is not None:
            given, of_head = selected_losses(
                logits, labels, weight, model.parents, config, totals.selected, self.factors, members,
                self.loss_weights.imputing,
            )  # fmt: skip
            if model.loss_space == "both":
                given = given * config.given_parent_weight * given.new_tensor([each >= 0 for each in model.parents])
            losses = losses + given
        combined = self.loss_weights.combine(losses, len(rows.labels) / max(totals.rows, 1))
        combined = combined if of_head is None else combined + of_head
        for penalty in model.penalties:
            own = penalty(model.trained_reach(logits), model.parents, weight)
            combined = combined + own / (members * totals.weight)
        return losses, combined


def replica(module: Replicated) -> Replicated:
    """Other modules around the same tensors: one thread may put tensors in their place unseen by others."""
    tensors = {id(tensor): tensor for tensor in chain(module.parameters(), module.buffers())}
    return copy.deepcopy(module, tensors)
