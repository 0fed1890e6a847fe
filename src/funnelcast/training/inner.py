"""The inner loop of meta-learning: parameters that move on a task's support rows, and the backward pass through that.

With θ the adapted parameters and φ all others, one step gives θ' = θ - α ∇θ S(θ, φ) on the support loss S. The gradient
of the query loss Q(θ', φ) is, with v = ∇θ' Q,

    by θ: v - (∂²S/∂θ²) α v          by φ: ∇φ Q - (∂²S/∂φ∂θ) α v

where both products are derivatives of -⟨∇θ S, α v⟩. Several steps are differentiated one after the other. All is taken
from graphs by `autograd.grad`: nothing is left in the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call

from funnelcast.data.batch import Batch
from funnelcast.data.loader import seed_of
from funnelcast.layers.embedding import Embedded
from funnelcast.training.gradients import joined, sum_of
from funnelcast.training.objective import BatchTotals, Microbatch, Objective

Tensors = list[Tensor]


class Rows(NamedTuple):
    """A support or a query set."""

    batch: Batch
    x: Embedded
    """Looked up."""
    seed: int | None
    """Of its dropout; none for no dropout."""

    def slice(self, start: int, stop: int) -> Rows:
        """Rows start … stop - 1, with dropout of their own."""
        return Rows(self.batch.slice(start, stop), self.x.slice(start, stop), self._seed(start))

    def with_seed(self, time: int) -> Rows:
        """The same with other dropout."""
        return self._replace(seed=self._seed("again", time))

    def microbatches(self, size: int, totals: BatchTotals, *, trained: bool) -> Iterator[Microbatch]:
        """At most `size` rows each; `trained`: whether a gradient by the embedded rows is needed."""
        for start in range(0, len(self.batch), size):
            own = self.slice(start, min(start + size, len(self.batch)))
            assert own.batch.labels is not None
            seeds = None if own.seed is None else torch.tensor([own.seed], device=own.x.flat.device)
            yield Microbatch(own.x.leaves(trained=trained), own.batch.labels, own.batch.weight, totals, seeds)

    def _seed(self, *parts: int | str) -> int | None:
        return None if self.seed is None else seed_of(self.seed, *parts)


class TaskGradient(NamedTuple):
    """The gradient of a loss of a task's rows."""

    by_adapted: Tensors
    by_rest: Tensors
    embedded: Embedded | None
    """By the embedded rows; none where these are not trained."""
    losses: Tensor | None = None
    """(T,) means per step."""
    combined: Tensor | None = None
    """What is minimised of them."""

    def plus(self, other: TaskGradient) -> TaskGradient:
        """The sum with that of another loss of the same rows, or of rows without a gradient; losses stay."""
        embedded = self.embedded or other.embedded
        if self.embedded is not None and other.embedded is not None:
            tensors = zip(self.embedded.tensors(), other.embedded.tensors(), strict=True)
            embedded = self.embedded.with_tensors([a + b for a, b in tensors])
        by_adapted, by_rest = plus(self.by_adapted, other.by_adapted), plus(self.by_rest, other.by_rest)
        return self._replace(by_adapted=by_adapted, by_rest=by_rest, embedded=embedded)


class InnerStep(NamedTuple):
    """A step that can be differentiated."""

    leaves: Tensors
    """The adapted parameters that it started from."""
    parts: list[tuple[Embedded, Tensors]]
    """By microbatch the embedded support rows, and their part of the gradient with its graph."""
    gradient: Tensors
    """By `leaves`."""


class InnerLoop:
    """An objective whose parameters move."""

    def __init__(
        self, objective: Objective, adapted: dict[str, Tensor], rest: Sequence[Tensor], *, embedding: bool, size: int
    ) -> None:
        """`adapted`: parameters of the objective, by name; `rest`: others that are trained; `embedding`: whether
        embedded rows are; `size`: rows that go through the network at once. One thread at a time."""
        self.objective, self.names = objective, list(adapted)
        self.start = [p.detach().requires_grad_() for p in adapted.values()]
        self.rest, self.embedding, self.size = list(rest), embedding, size
        trained = {id(tensor) for tensor in (*adapted.values(), *self.rest)}
        named = objective.named_parameters()
        self._constant = {name: p.detach() for name, p in named if id(p) not in trained}

    @torch.no_grad()
    def losses(self, rows: Rows, leaves: Tensors) -> tuple[Tensor, Tensor]:
        """Mean losses (T,) at the parameters `leaves`, without dropout; and what is minimised of them."""
        found = [self._run(part._replace(seeds=None), leaves) for part in self._microbatches(rows)]
        losses, combined = zip(*found, strict=True)
        return sum_of(losses), sum_of(combined)

    def differentiate(self, rows: Rows, leaves: Tensors, factor: float = 1.0) -> TaskGradient:
        """By everything that is trained, at the parameters `leaves`; gradients are `factor` times as large."""
        found = []
        for part in self._microbatches(rows):
            losses, combined = self._run(part, leaves)
            start = torch.full_like(combined, factor)
            grads = torch.autograd.grad(
                combined, self._trained(part.x, leaves), start, allow_unused=True, materialize_grads=True
            )
            found.append(self._split(part.x, grads)._replace(losses=losses.detach(), combined=combined.detach()))
        return concatenated(found)

    def step(self, rows: Rows, leaves: Tensors, *, order: int) -> InnerStep:
        """The gradient by the parameters `leaves`; `order` 2: to be differentiated once more."""
        parts, second_order = [], order == 2
        for part in self._microbatches(rows, trained=second_order and self.embedding):
            _, combined = self._run(part, leaves, order)
            grads = torch.autograd.grad(
                combined, leaves, create_graph=second_order, allow_unused=True, materialize_grads=True
            )
            parts.append((part.x, list(grads)))
        by_leaf = zip(*(grads for _, grads in parts), strict=True)
        return InnerStep(leaves, parts, [sum_of([g.detach() for g in grads]) for grads in by_leaf])

    def backward(self, step: InnerStep, by_gradient: Tensors) -> TaskGradient:
        """What a derivative `by_gradient` by the step's gradient adds to those by its leaves and all others."""
        found = []
        for x, grads in step.parts:
            outputs = [(g, v) for g, v in zip(grads, by_gradient, strict=True) if g.requires_grad]
            of, vectors = zip(*outputs, strict=True)
            targets = self._trained(x, step.leaves)
            second = torch.autograd.grad(of, targets, vectors, allow_unused=True, materialize_grads=True)
            found.append(self._split(x, second))
        return concatenated(found)

    def _microbatches(self, rows: Rows, trained: bool | None = None) -> Iterator[Microbatch]:
        totals = self.objective.totals(rows.batch)
        return rows.microbatches(self.size, totals, trained=self.embedding if trained is None else trained)

    def _trained(self, x: Embedded, leaves: Tensors) -> Tensors:
        return [*leaves, *self.rest, *(x.tensors() if self.embedding else [])]

    def _split(self, x: Embedded, grads: Sequence[Tensor]) -> TaskGradient:
        """Gradients by what `_trained` names."""
        adapted, rest = len(self.start), len(self.rest)
        embedded = x.with_tensors(grads[adapted + rest :]) if self.embedding else None
        return TaskGradient(list(grads[:adapted]), list(grads[adapted : adapted + rest]), embedded)

    def _run(self, rows: Microbatch, leaves: Tensors, order: int = 1) -> tuple[Tensor, Tensor]:
        parameters = self._constant | dict(zip(self.names, leaves, strict=True))
        with self.objective.model.compute(order=order):
            result: tuple[Tensor, Tensor] = functional_call(self.objective, parameters, (rows,))
        return result


def plus(tensors: Tensors, others: Tensors, factor: float = 1.0) -> Tensors:
    """Each and `factor` times the one in its place."""
    return [torch.add(own, other, alpha=factor) for own, other in zip(tensors, others, strict=True)]


def concatenated(parts: Sequence[TaskGradient]) -> TaskGradient:
    """Of microbatches that stand one after the other, whose losses add up."""
    by_adapted, by_rest = (
        [sum_of(own) for own in zip(*grads, strict=True)]
        for grads in ([part.by_adapted for part in parts], [part.by_rest for part in parts])
    )
    embedded = None if parts[0].embedded is None else joined([part.embedded for part in parts if part.embedded])
    losses, combined = (
        None if own[0] is None else sum_of([each for each in own if each is not None])
        for own in ([part.losses for part in parts], [part.combined for part in parts])
    )
    return TaskGradient(by_adapted, by_rest, embedded, losses, combined)
