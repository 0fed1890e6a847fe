"""Adapting a trained network to few rows: inner steps, as many as its own held-out loss is better for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field, field_validator
from torch import Tensor

from funnelcast.data.batch import Batch
from funnelcast.data.loader import generator_of
from funnelcast.errors import FunnelcastError
from funnelcast.models.network import FunnelModel, Group
from funnelcast.schema.config import Config
from funnelcast.training.algorithms import Inner, scaled
from funnelcast.training.information import UNMEASURED, information, shrinkage
from funnelcast.training.inner import InnerLoop, Tensors
from funnelcast.training.losses import LossConfig, build_loss_weights
from funnelcast.training.new_ids import Looked, Lookup, Start
from funnelcast.training.objective import Objective, replica
from funnelcast.training.offsets import LEAST, Logits, offsets
from funnelcast.training.overlay import NewIds

BIAS = "model.output.bias"
PIECE = 8192
"""Rows that go through the network at once."""


class Adapting(Config):
    """How a trained network is adapted to few rows. What is not given is as in the inner loop of its training."""

    inner: Literal["all", "top"] | Annotated[tuple[Group, ...], Field(min_length=1)] | None = None
    """What adapts; the `top` of a network that was trained plainly."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Size of a step; 0.1 for a network that was trained plainly. A step that overshoots, by the loss of its own rows,
    ends where a parabola through what is known is lowest."""
    steps: int | None = Field(default=None, ge=1, le=1000)
    """At most so many steps; 10 for a network that was trained plainly. Fewer are taken where held-out rows say so."""
    folds: int = Field(default=5, ge=2, le=100)
    """The rows are held out in so many parts, one after the other, to find the number of steps."""
    prior: float | None = Field(default=None, ge=0)
    """What is known before the first row: 1 / τ², where τ is how much tasks differ, in logits. Steps are as long as
    I / (I + prior) says, where I = Σ p (1 - p) is what the rows tell; so few rows move little. 0 for full steps. By
    default τ is that of each step over the tasks of training, where these have a key; where tasks were alike, nothing
    adapts. It is 2 for a network that was trained plainly, or reads the key."""
    offsets: bool = True
    """Fit the bias of every logit first, to the peak of its posterior, and again after each step; where it adapts, and
    rows count by their likelihood. That is the first of the steps that are counted."""
    new_ids: Start = "unknown"
    """What ids that training has not seen start from: the row of `unknown` ids, which the network takes for them
    anyway, the `mean` of the ids it knows; `none` for no rows of their own."""

    @field_validator("inner")
    @classmethod
    def _check_inner(cls, value: str | tuple[Group, ...] | None) -> str | tuple[Group, ...] | None:
        if isinstance(value, tuple) and "embedding" in value:
            raise ValueError("the embedding never adapts, its rows are of single ids; leave it out")
        return value


@dataclass(frozen=True)
class Starting:
    """What a network has from its training, beside its parameters."""

    loss: LossConfig
    weights: Sequence[float]
    """(T,) factors on the steps' mean losses."""
    inner: Inner | None
    """Of its last meta stage; none if it was trained plainly."""
    information: Sequence[float]
    """(T,) Σ p (1 - p) of the support rows of a task in training; 0 for a network that was trained plainly."""
    factors: Mapping[str, Tensor]
    """What α is multiplied by, by parameter of the model, where that was learned."""
    differences: Sequence[float] = ()
    """(T,) standard deviation of what an offset of each logit is over the tasks of training; () if not measured."""
    keep_negatives: float = 1.0
    """Share of the rows without a first step that it was trained on."""


@dataclass(frozen=True)
class Adapted:
    """The outcome."""

    parameters: dict[str, Tensor]
    """The adapted ones by name; empty where none helped."""
    steps: int
    """That were taken."""
    losses: list[float]
    """Held-out loss after 0, 1, … steps: mean over the rows of the weighted sum over the funnel's steps."""
    alike: bool = False
    """Whether no step was tried, as the tasks of training do not differ."""
    new: dict[str, Tensor] = field(default_factory=dict)
    """(U, E) by vocabulary: what is added to its row of unknown ids for the new ids 1 … U."""


def adapt(
    model: FunnelModel, starting: Starting, rows: Batch, config: Adapting, seed: int = 0, new: NewIds | None = None
) -> Adapted:
    """Adapt to `rows`, labelled; the model stays as it is. `seed`: of the order in which rows are held out; `new`:
    their ids that the model takes for unknown. Raises FunnelcastError where the model has nothing that adapts."""
    run = _Run.of(model, starting, config, new)
    rows, judge = run.as_trained(rows), run.loop(starting.weights)
    if all(map(math.isinf, run.prior)):
        whole = run.look_up(rows, torch.ones(len(rows), dtype=torch.bool))
        loss = judge.losses(run.lookup.rows(whole, run.lookup.nothing()), judge.start)[1]
        return Adapted({}, 0, [float(loss)], alike=True)
    totals, size = torch.zeros(run.most + 1), 0.0
    for held in _folds(rows, config.folds, seed):
        known, asked = run.look_up(rows, ~held), run.look_up(rows, held)
        losses = [judge.losses(run.lookup.rows(asked, at.new), at.leaves)[1] for at in run.path(known)[1]]
        weight = float(len(asked.batch) if asked.batch.weight is None else asked.batch.weight.sum())
        totals, size = totals + weight * torch.stack(losses).cpu(), size + weight
    means = (totals / size).tolist() if size else [0.0]
    steps = means.index(min(means))
    if not steps:
        return Adapted({}, 0, means)
    loop, path = run.path(run.look_up(rows, torch.ones(len(rows), dtype=torch.bool)), steps)
    names = [name.removeprefix("model.") for name in loop.names]
    parameters = dict(zip(names, [leaf.detach() for leaf in path[-1].leaves], strict=True))
    return Adapted(parameters, steps, means, new=run.lookup.named(path[-1].new))


class Place(NamedTuple):
    """Where inner steps have come to."""

    leaves: Tensors
    """The adapted parameters."""
    new: Tensors
    """The rows of new ids."""

    def minus(self, step: Place, share: float = 1.0) -> Place:
        """After a share of a step."""
        leaves = [
            (leaf.detach() - share * s).requires_grad_() for leaf, s in zip(self.leaves, step.leaves, strict=True)
        ]
        return Place(leaves, [row - share * s for row, s in zip(self.new, step.new, strict=True)])

    def along(self, step: Place) -> float:
        """The inner product."""
        pairs = zip([*self.leaves, *self.new], [*step.leaves, *step.new], strict=True)
        return sum(float((own * other).sum()) for own, other in pairs)


@dataclass(frozen=True)
class _Run:
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
    def of(cls, model: FunnelModel, starting: Starting, config: Adapting, new: NewIds | None) -> _Run:
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

    def look_up(self, rows: Batch, where: Tensor) -> Looked:
        """Some of the rows (N,), on the model's device."""
        chosen, device = torch.nonzero(where).squeeze(1), self.model.device
        new = self.new.take(chosen).to(device) if self.new is not None else None
        return self.lookup.look_up(rows.take(chosen).to(device), new)

    def loop(self, weights: Sequence[float]) -> InnerLoop:
        model, fixed = self.own, {"weighting": "fixed", "weights": tuple(weights), "normalise": False}
        loss = self.starting.loss.model_copy(update=fixed)
        objective = Objective(model, build_loss_weights(loss, [0.5] * len(weights)).to(model.device), loss)
        adapted = {f"model.{name}": p for name, p in model.groups(self.inner.groups).items()}
        return InnerLoop(objective, dict[str, Tensor](adapted), [], embedding=self.new is not None, size=PIECE)

    def path(self, rows: Looked, steps: int | None = None) -> tuple[InnerLoop, list[Place]]:
        """The loop, and where it is after 0, 1, … steps on some rows; at 0 it is the model itself."""
        told = information(self.model, rows.batch, self.starting.keep_negatives)
        factors = shrinkage(told, self.starting.information, self.prior)
        loop = self.loop([w * f for w, f in zip(self.starting.weights, factors, strict=True)])
        one = torch.ones((), device=self.model.device)
        rates = [self.starting.factors.get(name.removeprefix("model."), one) for name in loop.names]
        path, size = [Place(loop.start, self.lookup.nothing())], steps or self.most
        at = self._offset(loop, rows, Place(loop.start, self.lookup.start(rows, self.config.new_ids)), LEAST)
        if self.config.offsets:
            path.append(self._offset(loop, rows, at))
        while len(path) <= size:
            before, found = self._loss(loop, rows, at), loop.differentiate(self.lookup.rows(rows, at.new), at.leaves)
            gradient = Place(found.by_adapted, self.lookup.gradient(rows, found.embedded))
            step = Place(scaled(gradient.leaves, self.inner, rates), scaled(gradient.new, self.inner, ()))
            share = lowest(before, self._loss(loop, rows, at.minus(step)), gradient.along(step))
            at = self._offset(loop, rows, at.minus(step, share), LEAST)
            path.append(self._offset(loop, rows, at))
        return loop, path

    @property
    def most(self) -> int:
        """Steps that are tried."""
        return self.inner.steps + self.config.offsets

    def _offset(self, loop: InnerLoop, rows: Looked, at: Place, prior: float | None = None) -> Place:
        """With the biases of the logits where the rows' posterior is highest, if they are fitted and adapt. `prior`:
        instead of the run's, where tasks differ."""
        loss = self.starting.loss
        if not self.config.offsets or BIAS not in loop.names or loss.focal_gamma > 0 or loss.positive_weight:
            return at
        looked, model, i = self.lookup.rows(rows, at.new), self.own, loop.names.index(BIAS)
        start, leaves = loop.start[i].detach(), [*at.leaves]
        leaves[i] = start
        logits = Logits(model).under(loop.names, leaves, looked, PIECE)
        parents = model.parents if model.head == "chain" or model.given_parent else (-1,) * len(model.parents)
        labels, known = looked.batch.labels, [p if prior is None or math.isinf(p) else prior for p in self.prior]
        assert labels is not None
        by = offsets(logits, labels, parents, known, looked.batch.weight).to(start)
        leaves[i] = (start + by.reshape(start.shape)).requires_grad_()
        return at._replace(leaves=leaves)

    def _loss(self, loop: InnerLoop, rows: Looked, at: Place) -> float:
        return float(loop.losses(self.lookup.rows(rows, at.new), at.leaves)[1])


def lowest(before: float, after: float, slope: float) -> float:
    """The share of a step, at most 1, at which a parabola is lowest that falls by `slope` at its start, and has the
    losses before and after the step; 0 where the step diverges."""
    bend = after - before + slope
    if math.isfinite(bend):
        return min(1.0, slope / (2 * bend)) if bend > 0 else 1.0
    return 0.0


def _settings(config: Adapting, starting: Starting) -> Inner:
    own = starting.inner or Inner(inner="top", learning_rate=0.1, steps=10)
    given = {
        name: value for name in ("inner", "learning_rate", "steps") if (value := getattr(config, name)) is not None
    }
    return own.model_copy(update={**given, "order": "first", "adapt_loss_weights": False, "support_loss": 0.0})


def _folds(rows: Batch, folds: int, seed: int) -> list[Tensor]:
    """Masks (N,) of the rows that are held out together; each has its share of the rows that went deep."""
    assert rows.labels is not None
    order = torch.randperm(len(rows), generator=generator_of(seed, "folds"))
    depth = (rows.labels[order] == 1).sum(1)
    order = order[torch.argsort(depth, stable=True)]
    fold = torch.empty(len(rows), dtype=torch.int64)
    fold[order] = torch.arange(len(rows)) % folds
    return [fold == i for i in range(min(folds, len(rows)))]
