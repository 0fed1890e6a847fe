"""What meta-learning makes of one task: MAML in second and first order, Meta-SGD, Reptile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from funnelcast.data.batch import Batch
from funnelcast.layers.dropout import Seed
from funnelcast.layers.embedding import Embedded, Embedding
from funnelcast.layers.hashing import HashedIds
from funnelcast.layers.mode import FAST
from funnelcast.layers.passes import put_numbers
from funnelcast.models.network import GROUPS, TOP, Group
from funnelcast.schema.config import Config
from funnelcast.training.inner import Found, InnerLoop, Rows, Taken, Tensors, added


class Inner(Config):
    """How parameters move on the rows of a task."""

    inner: Literal["all", "top"] | Annotated[tuple[Group, ...], Field(min_length=1)] = "all"
    """What adapts, as far as the stage trains it: `all` dense parameters; the `top`: gates, attention and towers, which
    costs much less; or named groups. Embeddings never do."""
    learning_rate: float = Field(default=0.01, gt=0)
    """α, the size of an inner step."""
    learned: bool = False
    """Meta-SGD (Li et al. 2017): α times a factor for each adapted number, learned with the rest from 1."""
    steps: int = Field(default=1, ge=1, le=100)
    """Inner steps, each on all support rows."""
    order: Literal["second", "first", "reptile"] = "second"
    """`second`: the gradient leads through the inner steps; `first` (FOMAML): it is that at the adapted parameters;
    `reptile` (Nichol et al. 2018): the mean gradient along `steps` steps, each on its share of all of a task's rows."""
    adapt_loss_weights: bool = False
    """Whether learned loss weights adapt too."""
    support_loss: float = Field(default=0.0, ge=0)
    """Weight of the support rows' own loss, before anything adapts, in what is minimised. At 0, embedding rows that
    occur in no query are left as they are: what reaches them through the inner step alone is tiny, and Adam would make
    whole steps of it."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if "embedding" in self.inner:
            raise ValueError("inner: the embedding never adapts, its rows are of single ids; leave it out")
        if self.order == "reptile":
            if self.steps == 1:
                raise ValueError("order = 'reptile' with steps = 1 is plain training; set steps = 2 or more")
            if self.learned or self.support_loss > 0:
                raise ValueError("order = 'reptile' has no outer loss; leave out learned and support_loss")
        return self

    @property
    def groups(self) -> tuple[Group, ...]:
        """What adapts, as far as it is trained."""
        if self.inner == "all":
            return tuple(group for group in GROUPS if group != "embedding")
        return TOP if self.inner == "top" else self.inner


@dataclass(frozen=True)
class TaskRows:
    """A task. A recorded pass has its rows looked up in its own memory."""

    batch: Batch
    """The rows of the support, then those of the query."""
    support: int
    """How many the support has."""
    weight: float
    """In what is minimised."""
    embedding: Embedding | HashedIds
    seed: Seed | None
    """Of its noise; none for no noise."""
    looked_up: Embedded | None = None
    """If it is already."""

    @cached_property
    def both(self) -> Rows:
        """Support and query, looked up."""
        if self.looked_up is not None:
            return Rows(self.batch, self.looked_up, self.seed)
        with torch.no_grad():
            return Rows(self.batch, self.embedding(self.batch, FAST), self.seed)

    @property
    def kind(self) -> tuple[object, ...] | None:
        """What must be the same in tasks that are recorded as one, beside shapes; none for what cannot be."""
        return (self.support, self.weight, self.seed is None) if self.embedding.can_record(self.batch) else None

    @property
    def numbers(self) -> list[Tensor]:
        """What the objective reads of it, but for what is looked up."""
        return [each for each in (self.batch.ids, self.batch.labels, self.batch.weight) if each is not None]

    @property
    def seeds(self) -> list[Seed]:
        """Of its noise."""
        return [] if self.seed is None else [self.seed]

    def put(self, there: TaskRows) -> None:
        """Its numbers, and what is looked up, to where another one's are."""
        put_numbers(self, there)
        self.embedding(self.batch, FAST, there.both.x.flat)

    def copy(self) -> TaskRows:
        """In memory of its own."""
        batch, x = self.batch.copied(), self.both.x
        own = x.copied()._replace(ids=None if x.ids is None else batch.ids)
        return replace(self, batch=batch, seed=self.seed and self.seed.copy(), looked_up=own)

    def halves(self) -> tuple[Rows, Rows]:
        """Support and query."""
        return self.both.slice(0, self.support), self.both.slice(self.support, len(self.batch))


class Share(NamedTuple):
    """A task's share of the outer gradient."""

    by_adapted: Tensors
    by_rest: Tensors
    by_rates: Tensors
    """By what α is multiplied by."""
    embedded: list[Embedded]
    """By all rows embedded, some after the others; none where that is not trained."""
    losses: Tensor
    """(T,) of the task itself: of the query, or for Reptile of all rows."""


class Outer(NamedTuple):
    """The same in parts, `found` + `factor` · `through`, as a pass leaves them."""

    found: Found
    """At the adapted parameters, and by the query's embedded rows; for Reptile all there is."""
    by_rates: Tensors
    leaves: Tensors
    """The adapted parameters."""
    through: Found | None = None
    """What comes through the inner steps, and by the support's embedded rows."""
    factor: float = 1.0
    support: Embedded | None = None
    """By the support's embedded rows, what comes otherwise."""

    def share(self) -> Share:
        """In memory of its own."""
        found, more = self.found, self.through
        by_adapted = self._sums(found.by_adapted, None if more is None else more.by_adapted)
        by_rest = self._sums(found.by_rest, None if more is None else more.by_rest)
        pieces = [self._of_support(), None if found.embedded is None else found.embedded.copied()]
        assert found.losses is not None
        embedded = [piece for piece in pieces if piece is not None]
        return Share(by_adapted, by_rest, [each.clone() for each in self.by_rates], embedded, found.losses.clone())

    def _sums(self, tensors: Tensors, more: Tensors | None) -> Tensors:
        return [each.clone() for each in tensors] if more is None else plus(tensors, more, self.factor)

    def _of_support(self) -> Embedded | None:
        own, more = self.support, None if self.through is None else self.through.embedded
        if own is None:
            return None if more is None else more.scale(self.factor)
        return own.with_tensors(self._sums(own.tensors(), None if more is None else more.tensors()))


def outer_gradient(loop: InnerLoop, task: TaskRows, config: Inner, rates: Sequence[Tensor]) -> Outer:
    """By all that is trained. `rates`: what α is multiplied by for each adapted parameter, where it is learned."""
    return _reptile(loop, task, config) if config.order == "reptile" else _maml(loop, task, config, rates)


def moved(leaves: Tensors, gradient: Tensors, config: Inner, rates: Sequence[Tensor]) -> Tensors:
    """The parameters after an inner step."""
    there = plus([leaf.detach() for leaf in leaves], _by_rates(gradient, rates), -config.learning_rate)
    return [leaf.requires_grad_() for leaf in there]


def _maml(loop: InnerLoop, task: TaskRows, config: Inner, rates: Sequence[Tensor]) -> Outer:
    support, query = task.halves()
    leaves, path = loop.start, list[Taken]()
    for k in range(config.steps):
        path.append(loop.step(support.again(k), leaves, twice=config.order == "second"))
        leaves = moved(leaves, path[-1].gradient, config, rates)
    found, factor = loop.differentiate(query, leaves, task.weight), -config.learning_rate
    by_rates, through = [torch.zeros_like(rate) for rate in rates], None
    for taken in reversed(path):
        by_leaves = found.by_adapted if through is None else plus(found.by_adapted, through.by_adapted, factor)
        triples = zip(by_rates, taken.gradient, by_leaves, strict=False)
        by_rates = [total + factor * g * v for total, g, v in triples]
        if config.order == "second":
            more = loop.back(taken, _by_rates(by_leaves, rates))
            through = more if through is None else through.add(more)
    of_support = None
    if config.support_loss > 0:
        own = loop.differentiate(support, loop.start, config.support_loss * task.weight)
        found, of_support = found.add(own._replace(embedded=None)), own.embedded
    elif found.embedded is not None and through is None:
        of_support = support.x.with_tensors([torch.zeros_like(t) for t in support.x.tensors()])
    return Outer(found, by_rates, leaves, through, factor, of_support)


def _reptile(loop: InnerLoop, task: TaskRows, config: Inner) -> Outer:
    rows, leaves, shares = len(task.batch), loop.start, list[Found]()
    steps = min(config.steps, rows)
    for k in range(steps):
        share = task.both.slice(k * rows // steps, (k + 1) * rows // steps)
        shares.append(loop.differentiate(share, leaves))
        leaves = moved(leaves, shares[-1].by_adapted, config, ())
    mean = added(shares)
    assert mean.losses is not None
    return Outer(mean.scale(task.weight / steps)._replace(losses=mean.losses / steps), [], leaves)


def plus(tensors: Tensors, others: Tensors, factor: float) -> Tensors:
    """Each and `factor` times the one in its place."""
    return [torch.add(own, other, alpha=factor) for own, other in zip(tensors, others, strict=True)]


def scaled(gradient: Tensors, config: Inner, rates: Sequence[Tensor]) -> Tensors:
    """An inner step: the gradient times α."""
    return [config.learning_rate * g for g in _by_rates(gradient, rates)]


def _by_rates(gradient: Tensors, rates: Sequence[Tensor]) -> Tensors:
    """Times what α is multiplied by, where that is learned."""
    return [rate * g for rate, g in zip(rates, gradient, strict=True)] if rates else gradient
