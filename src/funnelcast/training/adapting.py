"""Adapting a trained network to few rows: inner steps, as many as its own held-out loss is better for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from funnelcast.data.batch import Batch
from funnelcast.data.loader import generator_of
from funnelcast.models.network import FunnelModel, Group
from funnelcast.schema.config import Config
from funnelcast.training.algorithms import Inner, moved
from funnelcast.training.inner import InnerLoop, Rows, Tensors
from funnelcast.training.losses import LossConfig, build_loss_weights
from funnelcast.training.objective import Objective, replica

PIECE = 8192
"""Rows that go through the network at once."""


class Adapting(Config):
    """How a trained network is adapted to few rows. What is not given is as in the inner loop of its training."""

    inner: Literal["all", "top"] | Annotated[tuple[Group, ...], Field(min_length=1)] | None = None
    """What adapts; the `top` of a network that was trained plainly."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Size of a step; 0.1 for a network that was trained plainly."""
    steps: int | None = Field(default=None, ge=1, le=1000)
    """At most so many steps; 10 for a network that was trained plainly. Fewer are taken where held-out rows say so."""
    folds: int = Field(default=5, ge=2, le=100)
    """The rows are held out in so many parts, one after the other, to find the number of steps."""
    prior: float = Field(default=2.0, ge=0)
    """What is known before the first row: 1 / τ², where τ is how much tasks differ, in logits. Steps are as long as
    I / (I + prior) says, where I = Σ p (1 - p) is what the rows tell; so few rows move little. 0 for full steps."""


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


@dataclass(frozen=True)
class Adapted:
    """The outcome."""

    parameters: dict[str, Tensor]
    """The adapted ones by name; empty where none helped."""
    steps: int
    """That were taken."""
    losses: list[float]
    """Held-out loss after 0, 1, … steps: mean over the rows of the weighted sum over the funnel's steps."""


def adapt(model: FunnelModel, starting: Starting, rows: Batch, config: Adapting, seed: int = 0) -> Adapted:
    """Adapt to `rows`, labelled; the model stays as it is. `seed`: of the order in which rows are held out."""
    inner = _settings(config, starting)
    judge = _loop(model, starting, inner, starting.weights)
    totals = torch.zeros(inner.steps + 1)
    for held in _folds(rows, config.folds, seed):
        known, asked = (rows.take(torch.nonzero(where).squeeze(1)) for where in (~held, held))
        _, path = _path(model, starting, inner, known, config.prior)
        totals += torch.stack([judge.losses(_looked_up(model, asked), leaves)[1] for leaves in path]) * len(asked)
    losses = (totals / len(rows)).tolist()
    steps = losses.index(min(losses))
    if not steps:
        return Adapted({}, 0, losses)
    loop, path = _path(model, starting, inner.model_copy(update={"steps": steps}), rows, config.prior)
    names = [name.removeprefix("model.") for name in loop.names]
    return Adapted(dict(zip(names, [leaf.detach() for leaf in path[-1]], strict=True)), steps, losses)


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


def _path(
    model: FunnelModel, starting: Starting, inner: Inner, rows: Batch, prior: float
) -> tuple[InnerLoop, list[Tensors]]:
    """The loop, and the adapted parameters after 0, 1, … steps on some rows."""
    weights = [w * f for w, f in zip(starting.weights, _shrinkage(model, starting, rows, prior), strict=True)]
    loop, support = _loop(model, starting, inner, weights), _looked_up(model, rows)
    factors = [starting.factors[name.removeprefix("model.")] for name in loop.names] if starting.factors else []
    path = [loop.start]
    for _ in range(inner.steps):
        path.append(moved(path[-1], loop.step(support, path[-1], twice=False).gradient, inner, factors))
    return loop, path


def _loop(model: FunnelModel, starting: Starting, inner: Inner, weights: Sequence[float]) -> InnerLoop:
    """Around modules of its own, as others may predict with the model meanwhile."""
    fixed = {"weighting": "fixed", "weights": tuple(weights), "normalise": False}
    loss = starting.loss.model_copy(update=fixed)
    objective = replica(Objective(model, build_loss_weights(loss, [0.5] * len(weights)).to(model.device), loss))
    adapted = {f"model.{name}": p for name, p in model.groups([g for g in inner.groups if g != "embedding"]).items()}
    return InnerLoop(objective, dict[str, Tensor](adapted), [], embedding=False, size=PIECE)


def _looked_up(model: FunnelModel, rows: Batch) -> Rows:
    """Without noise."""
    with torch.no_grad():
        return Rows(rows, model.embedding(rows), None)


def _shrinkage(model: FunnelModel, starting: Starting, rows: Batch, prior: float) -> list[float]:
    """What each step's loss is multiplied by: I / (I + prior), over the same of a task in training."""
    told = _information(model, rows).tolist()
    pairs = zip(told, starting.information, strict=True)
    return [i / (i + prior) * ((trained + prior) / trained if trained else 1.0) for i, trained in pairs]


@torch.no_grad()
def _information(model: FunnelModel, rows: Batch) -> Tensor:
    """(T,) Σ p (1 - p) of what the logit of each step is of: of the rows that reach its parent, or of all rows."""
    log_p = model(rows).log_p.double()
    parents = model.parents if model.head == "chain" or model.given_parent else (-1,) * len(model.parents)
    columns = []
    for t, parent in enumerate(parents):
        given = log_p[:, parent] if parent >= 0 else torch.zeros(len(rows), dtype=torch.float64)
        p = (log_p[:, t] - given).clamp(max=0).exp()
        columns.append((given.exp() * p * (1 - p)).sum())
    return torch.stack(columns)
