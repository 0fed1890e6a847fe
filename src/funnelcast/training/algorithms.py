"""What meta-learning makes of one task: MAML in second and first order, Meta-SGD, Reptile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from funnelcast.layers.dropout import Seed
from funnelcast.layers.embedding import Embedded
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


class TaskRows(NamedTuple):
    """A task."""

    both: Rows
    """The rows of the support, then those of the query."""
    support: int
    """How many the support has."""

    @property
    def kind(self) -> tuple[object, ...] | None:
        """What must be the same in tasks that are recorded as one, beside shapes; none for what cannot be."""
        return (self.support, self.both.seed is None) if self.both.x.can_record else None

    @property
    def numbers(self) -> list[Tensor]:
        """What the objective reads of it."""
        batch, x, _ = self.both
        return [tensor for tensor in (x.flat, x.ids, batch.labels, batch.weight) if tensor is not None]

    @property
    def seeds(self) -> list[Seed]:
        """Of its noise."""
        return [] if self.both.seed is None else [self.both.seed]

    def put(self, there: TaskRows) -> None:
        """Its numbers, to where another one's are."""
        put_numbers(self, there)

    def copy(self) -> TaskRows:
        """In memory of its own."""
        batch, x, seed = self.both
        return TaskRows(Rows(batch.copied(), x.copied(), seed and seed.copy()), self.support)

    def halves(self) -> tuple[Rows, Rows]:
        """Support and query."""
        return self.both.slice(0, self.support), self.both.slice(self.support, len(self.both.batch))


class Outer(NamedTuple):
    """The gradient of one task."""

    found: Found
    """With the losses of the query, or for Reptile of all rows."""
    embedded: list[Embedded]
    """The gradient of all rows embedded, some after the others; none where that is not trained."""
    by_rates: Tensors
    """By what α is multiplied by."""
    leaves: Tensors
    """The adapted parameters."""
    through: Found | None = None
    """What of it comes through the inner steps."""

    def share(self, tasks: int) -> Outer:
        """Of the mean over so many tasks, what the optimizer takes; in memory of its own."""
        embedded = [each.scale(1 / tasks) for each in self.embedded]
        return Outer(self.found.scale(1 / tasks), embedded, [grad / tasks for grad in self.by_rates], [])


def outer_gradient(loop: InnerLoop, task: TaskRows, config: Inner, rates: Sequence[Tensor]) -> Outer:
    """By all that is trained. `rates`: what α is multiplied by for each adapted parameter, where it is learned."""
    return _reptile(loop, task, config) if config.order == "reptile" else _maml(loop, task, config, rates)


def moved(leaves: Tensors, gradient: Tensors, config: Inner, rates: Sequence[Tensor]) -> Tensors:
    """The parameters after an inner step."""
    pairs, rate = zip(leaves, _by_rates(gradient, rates), strict=True), -config.learning_rate
    return [torch.add(leaf.detach(), g, alpha=rate).requires_grad_() for leaf, g in pairs]


def _maml(loop: InnerLoop, task: TaskRows, config: Inner, rates: Sequence[Tensor]) -> Outer:
    support, query = task.halves()
    leaves, path, through = loop.start, list[Taken](), None
    for k in range(config.steps):
        path.append(loop.step(support.again(k), leaves, twice=config.order == "second"))
        leaves = moved(leaves, path[-1].gradient, config, rates)
    found = loop.differentiate(query, leaves)
    of_query, found = found.embedded, found._replace(embedded=None)
    by_rates = [torch.zeros_like(rate) for rate in rates]
    for taken in reversed(path):
        by_leaves = zip(by_rates, taken.gradient, found.by_adapted, strict=False)
        by_rates = [total - config.learning_rate * g * v for total, g, v in by_leaves]
        if config.order == "second":
            more = loop.back(taken, scaled(found.by_adapted, config, rates, -1))
            found, more = found.add(more), more._replace(embedded=None)
            through = more if through is None else through.add(more)
    if config.support_loss > 0:
        found = found.add(loop.differentiate(support, loop.start).scale(config.support_loss))
    embedded = list[Embedded]()
    if of_query is not None:
        of_support = found.embedded or support.x.with_tensors([torch.zeros_like(t) for t in support.x.tensors()])
        embedded = [of_support, of_query]
    return Outer(found._replace(embedded=None), embedded, by_rates, leaves, through)


def _reptile(loop: InnerLoop, task: TaskRows, config: Inner) -> Outer:
    rows, leaves, shares = len(task.both.batch), loop.start, list[Found]()
    steps = min(config.steps, rows)
    for k in range(steps):
        share = task.both.slice(k * rows // steps, (k + 1) * rows // steps)
        shares.append(loop.differentiate(share, leaves))
        leaves = moved(leaves, shares[-1].by_adapted, config, ())
    found = added(shares).scale(1 / steps)
    embedded = [] if found.embedded is None else [found.embedded]
    return Outer(found._replace(embedded=None), embedded, [], leaves)


def scaled(gradient: Tensors, config: Inner, rates: Sequence[Tensor], sign: float = 1) -> Tensors:
    """An inner step: the gradient times α; with `sign` -1 what is to be taken off by it."""
    return [sign * config.learning_rate * g for g in _by_rates(gradient, rates)]


def _by_rates(gradient: Tensors, rates: Sequence[Tensor]) -> Tensors:
    """Times what α is multiplied by, where that is learned."""
    return [rate * g for rate, g in zip(rates, gradient, strict=True)] if rates else gradient
