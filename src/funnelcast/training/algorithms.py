"""What meta-learning makes of one task: MAML in second and first order, Meta-SGD, Reptile.

Algorithm 1 of the MAN paper, for a task with support rows S and query rows Q (PAPER.md says what is adapted):

    1  θ' = θ - α ∇θ L_S(θ, φ)                      the inner step, `sgd_step`; `steps` of them
    2  ∇ L_Q(θ', φ) by θ and φ, through the step    the outer gradient, `_maml`
    3  θ, φ move by Adam along its mean over tasks  the optimizer, `meta.MetaStep`
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from funnelcast.layers.embedding import Embedded
from funnelcast.models.network import GROUPS, TOP, Group
from funnelcast.schema.config import Config
from funnelcast.training.inner import InnerLoop, InnerStep, Rows, TaskGradient, Tensors, plus


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


class Task(NamedTuple):
    """A task's rows."""

    rows: Rows
    """The rows of the support, then those of the query."""
    support_size: int
    weight: float
    """In what is minimised."""

    @property
    def support(self) -> Rows:
        """What is adapted to."""
        return self.rows.slice(0, self.support_size)

    @property
    def query(self) -> Rows:
        """What the adapted parameters are measured by."""
        return self.rows.slice(self.support_size, len(self.rows.batch))


class OuterGradient(NamedTuple):
    """A task's share of the gradient that the optimizer moves by."""

    by_adapted: Tensors
    by_rest: Tensors
    by_rates: Tensors
    """By what α is multiplied by."""
    embedded: list[Embedded]
    """By all rows embedded, some after the others; none where that is not trained."""
    losses: Tensor
    """(T,) of the task itself: of the query, or for Reptile of all rows."""
    leaves: Tensors
    """The adapted parameters."""
    through: Tensors = []  # noqa: RUF012
    """The part of `by_adapted` and `by_rest` that comes through the inner steps."""


def outer_gradient(loop: InnerLoop, task: Task, config: Inner, rates: Sequence[Tensor]) -> OuterGradient:
    """By all that is trained. `rates`: what α is multiplied by for each adapted parameter, where it is learned."""
    return _reptile(loop, task, config) if config.order == "reptile" else _maml(loop, task, config, rates)


def sgd_step(leaves: Tensors, gradient: Tensors, config: Inner, rates: Sequence[Tensor]) -> Tensors:
    """θ - α ∇θ: the parameters after an inner step."""
    step = scaled(gradient, config, rates)
    return [(leaf.detach() - own).requires_grad_() for leaf, own in zip(leaves, step, strict=True)]


def scaled(gradient: Tensors, config: Inner, rates: Sequence[Tensor]) -> Tensors:
    """α times a gradient."""
    gradient = [rate * g for rate, g in zip(rates, gradient, strict=True)] if rates else gradient
    return [config.learning_rate * g for g in gradient]


def _maml(loop: InnerLoop, task: Task, config: Inner, rates: Sequence[Tensor]) -> OuterGradient:
    support, leaves, path = task.support, loop.start, list[InnerStep]()
    order = 2 if config.order == "second" else 1
    for k in range(config.steps):
        path.append(loop.step(support.with_seed(k), leaves, order=order))
        leaves = sgd_step(leaves, path[-1].gradient, config, rates)
    query = loop.differentiate(task.query, leaves, task.weight)
    v, through, by_rates = query.by_adapted, list[TaskGradient](), [torch.zeros_like(rate) for rate in rates]
    for step in reversed(path):
        products = zip(by_rates, step.gradient, v, strict=False)
        by_rates = [total - config.learning_rate * g * own for total, g, own in products]
        if order == 2:  # v - (∂²S/∂θ²) α v
            through.append(loop.backward(step, [-own for own in scaled(v, config, rates)]))
            v = plus(v, through[-1].by_adapted)
    of_support = through[:]
    if config.support_loss > 0:
        of_support.append(loop.differentiate(support, loop.start, config.support_loss * task.weight))
        v = plus(v, of_support[-1].by_adapted)
    by_rest, embedded = query.by_rest, _embedded(support, of_support) if loop.embedding else []
    for own in of_support:
        by_rest = plus(by_rest, own.by_rest)
    assert query.losses is not None
    embedded += [query.embedded] if query.embedded is not None else []
    parts = [[*own.by_adapted, *own.by_rest] for own in through]
    total = [sum(own[1:], own[0]) for own in zip(*parts, strict=True)]
    return OuterGradient(v, by_rest, by_rates, embedded, query.losses, leaves, total)


def _embedded(support: Rows, parts: Sequence[TaskGradient]) -> list[Embedded]:
    """By the support's embedded rows: the sum of the parts, 0 without any."""
    found = [part.embedded for part in parts if part.embedded is not None]
    if not found:
        return [support.x.with_tensors([torch.zeros_like(t) for t in support.x.tensors()])]
    by_tensor = zip(*(each.tensors() for each in found), strict=True)
    return [found[0].with_tensors([sum(own[1:], own[0]) for own in by_tensor])]


def _reptile(loop: InnerLoop, task: Task, config: Inner) -> OuterGradient:
    rows, leaves, shares = len(task.rows.batch), loop.start, list[TaskGradient]()
    steps = min(config.steps, rows)
    for k in range(steps):
        share = task.rows.slice(k * rows // steps, (k + 1) * rows // steps)
        shares.append(loop.differentiate(share, leaves, task.weight / steps))
        leaves = sgd_step(leaves, [g * (steps / task.weight) for g in shares[-1].by_adapted], config, ())
    total = shares[0]
    for more in shares[1:]:
        total = total._replace(
            by_adapted=plus(total.by_adapted, more.by_adapted), by_rest=plus(total.by_rest, more.by_rest)
        )
    losses = [share.losses for share in shares if share.losses is not None]
    embedded = [share.embedded for share in shares if share.embedded is not None]
    return OuterGradient(total.by_adapted, total.by_rest, [], embedded, sum(losses[1:], losses[0]) / steps, leaves)
