"""The inner loop of meta-learning: parameters that move on a task's support rows, and the way back through its steps.

With θ the adapted parameters and φ all others, one step gives θ' = θ - α ∇θ S(θ, φ) on the support loss S. The gradient
of the query loss Q(θ', φ) is, with v = ∇θ' Q,

    by θ: v - (∂²S/∂θ²) α v          by φ: ∇φ Q - (∂²S/∂φ∂θ) α v

where both products are derivatives of -⟨∇θ S, α v⟩. Several steps are gone back through one after the other. All is
taken from graphs by `autograd.grad`: nothing is left in the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call

from funnelcast.data.batch import Batch
from funnelcast.layers.dropout import Seed
from funnelcast.layers.embedding import Embedded
from funnelcast.layers.gates import sum_of
from funnelcast.layers.leaves import Leaves
from funnelcast.layers.mode import Mode
from funnelcast.training.gradients import joined
from funnelcast.training.objective import Objective, Whole
from funnelcast.training.step import is_cpu, noise_of

Tensors = list[Tensor]


class Rows(NamedTuple):
    """A support or a query set."""

    batch: Batch
    x: Embedded
    """Looked up."""
    seed: Seed | None
    """Of its noise; none for no noise."""

    def slice(self, start: int, stop: int) -> Rows:
        """Rows start … stop - 1, with noise of their own."""
        return Rows(self.batch.slice(start, stop), self.x.slice(start, stop), self.seed and self.seed.of(start))

    def again(self, time: int) -> Rows:
        """The same with other noise."""
        return self._replace(seed=self.seed and self.seed.of("again", time))

    def pieces(self, size: int, *, trained: bool) -> Iterator[Rows]:
        """Of at most `size` rows; `trained`: whether a gradient by the embedded rows is wanted."""
        for start in range(0, len(self.batch), size):
            piece = self.slice(start, min(start + size, len(self.batch)))
            yield piece._replace(x=piece.x.leaves(trained=trained))


class Found(NamedTuple):
    """The gradient of some rows' loss."""

    by_adapted: Tensors
    by_rest: Tensors
    embedded: Embedded | None
    losses: Tensor | None = None
    """(T,) means per step."""
    combined: Tensor | None = None
    """What is minimised of them, where it was asked for."""

    def add(self, other: Found) -> Found:
        """With the gradient of another loss, which is added in place; of the same rows, or of rows that had none."""
        add_in_place(self.by_adapted, other.by_adapted)
        add_in_place(self.by_rest, other.by_rest)
        if self.embedded is None or other.embedded is None:
            return self._replace(embedded=self.embedded or other.embedded)
        add_in_place(self.embedded.tensors(), other.embedded.tensors())
        return self

    def scale(self, factor: float) -> Found:
        """All of it times a factor."""
        adapted, rest = ([factor * grad for grad in grads] for grads in (self.by_adapted, self.by_rest))
        embedded = None if self.embedded is None else self.embedded.scale(factor)
        return Found(adapted, rest, embedded, None if self.losses is None else factor * self.losses)


class Taken(NamedTuple):
    """An inner step that can be gone back through."""

    leaves: Tensors
    """The adapted parameters that it started from."""
    pieces: list[tuple[Embedded, Tensors]]
    """The support rows, and their part of the gradient with its graph."""
    gradient: Tensors
    """By `leaves`."""


class InnerLoop:
    """An objective whose parameters move."""

    def __init__(
        self, objective: Objective, adapted: dict[str, Tensor], rest: Sequence[Tensor], *, embedding: bool, size: int
    ) -> None:
        """`adapted`: parameters of the objective, by name; `rest`: others that are trained; `embedding`: whether
        embedded rows are; `size`: rows that go through the network at once. One thread at a time."""
        self.objective, self.names, self.start = objective, list(adapted), list(adapted.values())
        self.rest, self.embedding, self.size = list(rest), embedding, size

    @torch.no_grad()
    def losses(self, rows: Rows, leaves: Tensors) -> tuple[Tensor, Tensor]:
        """Mean losses (T,) at the parameters `leaves`, without dropout; and what is minimised of them."""
        whole, pieces = self.objective.whole(rows.batch), self._pieces(rows)
        found = [self._run(piece, whole, leaves, Mode(fused=is_cpu(piece.x))) for piece in pieces]
        losses, combined = zip(*found, strict=True)
        return sum_of(losses), sum_of(combined)

    def differentiate(self, rows: Rows, leaves: Tensors, factor: float = 1.0) -> Found:
        """By everything that is trained, at the parameters `leaves`; gradients are `factor` times as large."""
        whole, found, minimised = self.objective.whole(rows.batch), [], []
        for piece in self._pieces(rows):
            wanted = self._wanted(piece.x, leaves)
            losses, combined = self._run(piece, whole, leaves, self._mode(piece, wanted))
            start = torch.full_like(combined, factor)
            grads = torch.autograd.grad(combined, wanted, start, allow_unused=True, materialize_grads=True)
            found.append(self._parted(piece.x, grads, losses.detach()))
            minimised.append(combined.detach())
        return added(found)._replace(combined=sum_of(minimised))

    def step(self, rows: Rows, leaves: Tensors, *, twice: bool) -> Taken:
        """The gradient by the parameters `leaves`; `twice`: to be differentiated once more."""
        whole, pieces = self.objective.whole(rows.batch), []
        for piece in rows.pieces(self.size, trained=twice and self.embedding):
            wanted = self._wanted(piece.x, leaves) if twice else leaves
            _, combined = self._run(piece, whole, leaves, self._mode(piece, wanted, leaves if twice else None))
            grads = torch.autograd.grad(combined, leaves, create_graph=twice, allow_unused=True, materialize_grads=True)
            pieces.append((piece.x, list(grads)))
        by_leaf = zip(*(grads for _, grads in pieces), strict=True)
        return Taken(leaves, pieces, [sum_of([g.detach() for g in grads]) for grads in by_leaf])

    def back(self, taken: Taken, by_gradient: Tensors) -> Found:
        """What a derivative `by_gradient` by the step's gradient adds to those by its leaves and all others."""
        found = []
        for x, grads in taken.pieces:
            wanted = self._wanted(x, taken.leaves)
            outputs = [(g, v) for g, v in zip(grads, by_gradient, strict=True) if g.requires_grad]
            of, vectors = zip(*outputs, strict=True)
            again = torch.autograd.grad(of, wanted, vectors, allow_unused=True, materialize_grads=True)
            found.append(self._parted(x, again))
        return added(found)

    def _pieces(self, rows: Rows) -> Iterator[Rows]:
        return rows.pieces(self.size, trained=self.embedding)

    def _wanted(self, x: Embedded, leaves: Tensors) -> Tensors:
        return [*leaves, *self.rest, *(x.tensors() if self.embedding else [])]

    def _parted(self, x: Embedded, grads: Sequence[Tensor], losses: Tensor | None = None) -> Found:
        """Gradients by what `_wanted` names."""
        adapted, rest = len(self.start), len(self.rest)
        embedded = x.with_tensors(grads[adapted + rest :]) if self.embedding else None
        return Found(list(grads[:adapted]), list(grads[adapted : adapted + rest]), embedded, losses)

    def _mode(self, piece: Rows, wanted: Tensors, again: Tensors | None = None) -> Mode:
        twice = Leaves(again) if again is not None else None
        noise = None if piece.seed is None else noise_of(piece.x, piece.seed)
        return Mode(noise, is_cpu(piece.x), Leaves(wanted), twice)

    def _run(self, piece: Rows, whole: Whole, leaves: Tensors, mode: Mode) -> tuple[Tensor, Tensor]:
        arguments = (piece.batch, piece.x, whole, mode)
        if leaves is self.start:
            result: tuple[Tensor, Tensor] = self.objective(*arguments)
        else:
            result = functional_call(self.objective, dict(zip(self.names, leaves, strict=True)), arguments)
        return result


def add_in_place(tensors: Tensors, others: Tensors) -> None:
    """To each the one in its place."""
    if tensors:
        torch._foreach_add_(tensors, others)


def added(pieces: Sequence[Found]) -> Found:
    """Of rows that stand one after the other; in the place of the first's."""
    first, *others = pieces
    for other in others:
        add_in_place(first.by_adapted, other.by_adapted)
        add_in_place(first.by_rest, other.by_rest)
    embedded = None if first.embedded is None else joined([piece.embedded for piece in pieces if piece.embedded])
    losses = None if first.losses is None else sum_of([piece.losses for piece in pieces if piece.losses is not None])
    return Found(first.by_adapted, first.by_rest, embedded, losses)
