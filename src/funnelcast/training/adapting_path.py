"""Where adapting leads: from the network as it is, over the offsets that fit, along inner steps.

An offset is fitted to the rows' posterior, which holds it back; a step is taken from where it fits their likelihood, so
that what the prior holds back does not enter by other parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from funnelcast.data.batch import Batch
from funnelcast.errors import FunnelcastError
from funnelcast.models.network import FunnelModel
from funnelcast.training.adapting import Adapting, Starting
from funnelcast.training.added_statistics import Added, AddedStatistics, added_rows
from funnelcast.training.algorithms import Inner, scaled
from funnelcast.training.information import UNMEASURED, information, shrinkage
from funnelcast.training.inner import InnerLoop, Tensors
from funnelcast.training.losses import build_loss_weights
from funnelcast.training.new_ids import Looked, Lookup
from funnelcast.training.objective import Microbatch, Objective, replica
from funnelcast.training.offsets import LEAST, Logits, offsets
from funnelcast.training.overlay import NewIds

BIAS = "model.output.bias"
CHUNK = 8192
"""Rows that go through the network at once."""


class Point(NamedTuple):
    """Where inner steps have come to."""

    leaves: Tensors
    """The adapted parameters."""
    new: Tensors
    """The rows of new ids."""

    def minus(self, step: Point, share: float = 1.0) -> Point:
        """After a share of a step."""
        leaves = [
            (leaf.detach() - share * s).requires_grad_() for leaf, s in zip(self.leaves, step.leaves, strict=True)
        ]
        return Point(leaves, [row - share * s for row, s in zip(self.new, step.new, strict=True)])

    def along(self, step: Point) -> float:
        """The inner product."""
        pairs = zip([*self.leaves, *self.new], [*step.leaves, *step.new], strict=True)
        return sum(float((own * other).sum()) for own, other in pairs)


@dataclass(frozen=True)
class Run:
    """Adapting a network, by resolved settings."""

    model: FunnelModel
    own: FunnelModel
    """Modules of this run around the model's tensors, as others may predict with the model meanwhile."""
    starting: Starting
    config: Adapting
    inner: Inner
    lookup: Lookup
    new: Batch | None

    @classmethod
    def of(cls, model: FunnelModel, starting: Starting, config: Adapting, new: NewIds | None) -> Run:
        """Raises FunnelcastError where the model has none of the groups that adapt."""
        inner = _settings(config, starting)
        if not model.groups(inner.groups):
            raise FunnelcastError(
                f"inner = {inner.inner!r} adapts {', '.join(inner.groups)}, and the model has none of these; name "
                "groups that it has, or set inner = 'all'"
            )
        lookup = Lookup(model.embedding, new.inputs if new is not None and config.new_ids != "none" else None)
        rows = new.rows if new is not None and lookup.spans else None
        return cls(model, replica(model), starting, config, inner, lookup, rows)

    @property
    def prior(self) -> list[float]:
        """(T,)."""
        steps, own = len(self.starting.weights), self.starting.differences
        if self.config.prior is not None:
            return [self.config.prior] * steps
        return [std**-2 if std else math.inf for std in own or [UNMEASURED] * steps]

    def as_trained(self, rows: Batch) -> Batch:
        """With the labels and weights that the model was trained by."""
        rows, keep = self.loop(self.starting.weights).objective.labelled(rows), self.starting.keep_negatives
        assert rows.labels is not None
        if keep == 1:
            return rows
        share = torch.where(rows.labels[:, 0] == 0, keep, 1.0)
        return replace(rows, weight=share if rows.weight is None else rows.weight * share)

    def _as_given(self, rows: Batch) -> tuple[Tensor, Tensor | None]:
        """Labels, and weights without the share of the rows that training kept."""
        labels, keep = rows.labels, self.starting.keep_negatives
        assert labels is not None
        if keep == 1 or rows.weight is None:
            return labels, rows.weight
        return labels, rows.weight / torch.where(labels[:, 0] == 0, keep, 1.0)

    def look_up(self, rows: Batch, where: Tensor) -> Looked:
        """Some of the rows (N,), on the model's device."""
        chosen, device = torch.nonzero(where).squeeze(1), self.model.device
        new = self.new.take(chosen).to(device) if self.new is not None else None
        return self.lookup.look_up(rows.take(chosen).to(device), new)

    def added(self, rows: Batch) -> dict[str, Added] | None:
        """What labelled rows add to the model's target statistics; none where it reads none."""
        layer = self.model.statistics
        if layer is None or layer.fitted.everyone is None:
            return None
        return added_rows(layer, rows, self.starting.keep_negatives)

    def with_added(self, rows: Looked, added: Mapping[str, Added]) -> Looked:
        """Rows that read these too."""
        assert self.model.statistics is not None
        which = torch.zeros(len(rows.batch), dtype=torch.int64, device=self.model.device)
        return rows._replace(x=AddedStatistics(self.model.statistics, [added])(rows.x, rows.batch, which))

    def loop(self, weights: Sequence[float]) -> InnerLoop:
        fixed = {"weighting": "fixed", "weights": tuple(weights), "normalise": False, "correction": "none"}
        model, loss = self.own, self.starting.loss.model_copy(update=fixed)
        objective = Objective(model, build_loss_weights(loss, [0.5] * len(weights)).to(model.device), loss)
        adapted = {f"model.{name}": p for name, p in model.groups(self.inner.groups).items()}
        return InnerLoop(objective, dict[str, Tensor](adapted), [], embedding=self.new is not None, size=CHUNK)

    def path(self, rows: Looked, steps: int | None = None) -> tuple[InnerLoop, list[Point]]:
        """The loop, and where it is after 0, 1, … steps on some rows; at 0 it is the model itself."""
        own = information(self.model, rows.batch, self.starting.keep_negatives)
        factors = shrinkage(own, self.starting.information, self.prior)
        loop = self.loop([w * f for w, f in zip(self.starting.weights, factors, strict=True)])
        one = torch.ones((), device=self.model.device)
        rates = [self.starting.factors.get(name.removeprefix("model."), one) for name in loop.names]
        path, size = [Point(loop.start, self.lookup.nothing())], steps or self.most
        at, fitted = self._fitted(loop, rows, Point(loop.start, self.lookup.start(rows, self.config.new_ids)))
        if self.config.offsets:
            path.append(fitted)
        while len(path) <= size:
            found = loop.differentiate(self.lookup.rows(rows, at.new), at.leaves)
            gradient = Point(found.by_adapted, self.lookup.gradient(rows, found.embedded))
            step = Point(scaled(gradient.leaves, self.inner, rates), scaled(gradient.new, self.inner, ()))
            there, before = at.minus(step), float(found.combined) if found.combined is not None else math.nan
            logits = self._logits(loop, rows, there)
            after = self._loss(loop, rows, logits)
            share = lowest(before, after, gradient.along(step))
            there, known = (there, logits) if share == 1 else (at.minus(step, share), None)
            at, fitted = self._fitted(loop, rows, there, known)
            path.append(fitted)
        return loop, path

    @property
    def most(self) -> int:
        """Steps that are tried."""
        return self.inner.steps + self.config.offsets

    def _logits(self, loop: InnerLoop, rows: Looked, at: Point) -> Tensor:
        """(N, T)."""
        return Logits(self.own).under(loop.names, at.leaves, self.lookup.rows(rows, at.new), CHUNK)

    def _loss(self, loop: InnerLoop, rows: Looked, logits: Tensor) -> float:
        """What is minimised, from the rows' logits."""
        assert rows.batch.labels is not None
        totals = loop.objective.totals(rows.batch)
        return float(loop.objective.of(logits, Microbatch(rows.x, rows.batch.labels, rows.batch.weight, totals))[1])

    def _fitted(self, loop: InnerLoop, rows: Looked, at: Point, logits: Tensor | None = None) -> tuple[Point, Point]:
        """With the biases of the logits where the rows' likelihood is highest, and where their posterior is; as it is
        where biases do not adapt, or rows do not count by their likelihood."""
        loss = self.starting.loss
        if not self.config.offsets or BIAS not in loop.names or loss.focal_gamma > 0 or loss.positive_weight:
            return at, at
        i, logits = loop.names.index(BIAS), self._logits(loop, rows, at) if logits is None else logits
        start, members = loop.start[i].detach(), self.own.members
        moved = (start - at.leaves[i].detach()).reshape(members, -1)
        logits = (logits.unflatten(0, (-1, members)) + moved).mean(1)  # of members, which move together
        parents, (labels, weight) = self.own.logit_parents, self._as_given(rows.batch)
        logits = logits + logits.new_tensor([math.log(self.starting.keep_negatives) if p < 0 else 0 for p in parents])
        vague = [prior if math.isinf(prior) else LEAST for prior in self.prior]
        found = [offsets(logits, labels, parents, prior, weight).to(start) for prior in (vague, self.prior)]
        biases = [(start + by.repeat(members).reshape(start.shape)).requires_grad_() for by in found]
        likely, held = (at._replace(leaves=[*at.leaves[:i], bias, *at.leaves[i + 1 :]]) for bias in biases)
        return likely, held


def lowest(before: float, after: float, slope: float) -> float:
    """The share of a step, at most 1, at which a parabola is lowest that falls by `slope` at its start, and has the
    losses before and after the step; 0 where the step diverges."""
    bend = after - before + slope
    if math.isfinite(bend):
        return min(1.0, slope / (2 * bend)) if bend > 0 else 1.0
    return 0.0


def _settings(config: Adapting, starting: Starting) -> Inner:
    own = starting.inner or Inner(inner="top", learning_rate=0.1, steps=5)
    given = {
        name: value for name in ("inner", "learning_rate", "steps") if (value := getattr(config, name)) is not None
    }
    return own.model_copy(update={**given, "order": "first", "adapt_loss_weights": False, "support_loss": 0.0})
