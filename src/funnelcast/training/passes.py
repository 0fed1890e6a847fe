"""The way of a piece of a batch through the objective and back, recorded for others of as many rows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from funnelcast.data.batch import Batch
from funnelcast.layers.dropout import BlockNoise, Noise
from funnelcast.layers.embedding import Embedded
from funnelcast.layers.mode import is_simple
from funnelcast.layers.tape import RecordingError, Tape
from funnelcast.training.objective import Whole

SIZES: Final = 2
"""Sizes that are recorded, as each holds the memory of a pass: whole pieces, and what an epoch ends with."""


class Piece(NamedTuple):
    """Some rows of a batch."""

    batch: Batch
    x: Embedded
    """Looked up; leaves."""
    whole: Whole
    noises: Sequence[Noise]
    """Of its micro-batches."""
    size: int
    """Rows of each of them."""

    @property
    def noise(self) -> Noise | BlockNoise:
        return self.noises[0] if len(self.noises) == 1 else BlockNoise(self.noises, self.size)

    @property
    def numbers(self) -> list[Tensor]:
        """What the objective reads of it."""
        own = (self.x.flat, self.x.ids, self.batch.labels, self.batch.weight, self.whole.weights, self.whole.weight)
        return [tensor for tensor in own if tensor is not None]

    def copy(self) -> Piece:
        """The same in memory of its own, without sequences."""
        batch, x, whole = self.batch, self.x, self.whole
        ids, labels, weight = (None if each is None else each.clone() for each in (x.ids, batch.labels, batch.weight))
        return self._replace(
            noises=[noise.copy() for noise in self.noises],
            batch=replace(batch, labels=labels, weight=weight),
            x=Embedded(x.flat.detach().clone().requires_grad_(x.flat.requires_grad), (), ids),
            whole=replace(whole, weights=whole.weights.clone(), weight=whole.weight.clone()),
        )


Found = tuple[Tensor, list[Tensor]]
"""Losses (T,), and gradients."""
Differentiate = Callable[[Piece], Found]


class Pass:
    """A recorded one."""

    def __init__(self, piece: Piece, differentiate: Differentiate) -> None:
        """Of a first piece. Raises RecordingError."""
        self.piece, self.tape = piece.copy(), Tape()
        with self.tape.recording():
            losses, self.gradients = differentiate(self.piece)
        self.losses = losses.detach()

    @torch.no_grad()
    def play(self, piece: Piece) -> None:
        """For another piece of its shape."""
        for mine, given in zip(self.piece.numbers, piece.numbers, strict=True):
            mine.copy_(given)
        for noise, other in zip(self.piece.noises, piece.noises, strict=True):
            noise.begin_as(other)
        self.tape.play()

    def found(self, *, lend: bool) -> Found:
        """`lend`: good until another piece comes."""
        own = [self.losses, *self.gradients]
        losses, *gradients = own if lend else [tensor.clone() for tensor in own]
        return losses, gradients


class Passes:
    """Recorded ones that nobody plays, by what must be the same in all pieces of one."""

    def __init__(self, objective: nn.Module, *, can_record: bool) -> None:
        """`objective`: whose tensors are in what is recorded, by address."""
        self._tensors = [*objective.parameters(), *objective.buffers()]
        self._idle: dict[tuple[object, ...], list[Pass]] = {}
        self._lent: list[tuple[list[Pass], Pass]] = []
        self._can, self._lends, self._recording = can_record, False, threading.Lock()

    def begin(self, *, lend: bool) -> None:
        """A batch, which ends what the last one was lent; `lend`: what is found is lent, and its pieces are few."""
        for idle, one in self._lent:
            idle.append(one)
        self._lent, self._lends = [], lend

    def __call__(self, piece: Piece, differentiate: Differentiate) -> Found:
        """What that finds, to the bit; from any thread."""
        idle = self._idle_of(piece)
        one = None if idle is None else _played(idle, piece) or self._recorded(piece, differentiate)
        if idle is None or one is None:
            return differentiate(piece)
        found = one.found(lend=self._lends)
        if self._lends:
            self._lent.append((idle, one))
        else:
            idle.append(one)
        return found

    def _recorded(self, piece: Piece, differentiate: Differentiate) -> Pass | None:
        """None where that cannot be, or another thread is at it: it goes on with its next piece."""
        if not self._recording.acquire(blocking=False):
            return None
        try:
            return Pass(piece, differentiate)
        except RecordingError:
            self._can = False
            return None
        finally:
            self._recording.release()

    def _idle_of(self, piece: Piece) -> list[Pass] | None:
        """None where none is to be recorded, as for the first piece of a size, which may be the only one."""
        if not self._can or not is_simple(piece.x.flat) or piece.x.sequences:
            return None
        addresses = tuple(tensor.data_ptr() for tensor in self._tensors)
        key = (len(piece.batch), piece.whole.rows, piece.batch.weight is None, addresses)
        if key not in self._idle and len(self._idle) < SIZES:
            self._idle[key] = []
            return None
        return self._idle.get(key)


def _played(idle: list[Pass], piece: Piece) -> Pass | None:
    """One of them, if there is one."""
    try:
        one = idle.pop()
    except IndexError:
        return None
    one.play(piece)
    return one
