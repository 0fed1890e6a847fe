"""Passes through a network, recorded for others of as many rows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Generic, Protocol, Self, TypeVar, overload

import torch
from torch import Tensor

from funnelcast.layers.dropout import Seed
from funnelcast.layers.tape import RecordingError, Tape, copied

KINDS: Final = 2
"""That are recorded, as each holds the memory of a pass: in training whole pieces, and what an epoch ends with."""


class Given(Protocol):
    """What a pass reads, but for its parameters."""

    @property
    def numbers(self) -> list[Tensor]:
        """Of the same shapes in another one of its kind."""

    def put(self, there: Self) -> None:
        """Its numbers to where those of another one are, and with them what is made of them before the pass."""

    @property
    def seeds(self) -> Sequence[Seed]:
        """Of its noise."""

    @property
    def kind(self) -> tuple[object, ...] | None:
        """What must be the same for another one to be played, beside the numbers' shapes; none for what cannot be
        recorded."""

    def copy(self) -> Self:
        """The same in memory of its own, with seeds of its own."""


def put_numbers(given: Given, there: Given) -> None:
    """Numbers alone."""
    for own, other in zip(given.numbers, there.numbers, strict=True):
        other.copy_(own)


Own = TypeVar("Own", bound=Given)
Found = TypeVar("Found")
"""Tensors in tuples and lists."""
Kept = TypeVar("Kept")


class Pass(Generic[Own, Found]):
    """A recorded one."""

    def __init__(self, given: Own, run: Callable[[Own], Found]) -> None:
        """Of a first one. Raises RecordingError."""
        self.given, self.tape = given.copy(), Tape()
        with self.tape.recording():
            self.found = run(self.given)

    @torch.no_grad()
    def play(self, given: Own) -> None:
        """For another one of its kind."""
        given.put(self.given)
        for seed, new in zip(self.given.seeds, given.seeds, strict=True):
            seed.number = new.value
        self.tape.play()


class Passes(Generic[Own, Found]):
    """Recorded ones that nobody plays."""

    def __init__(self, tensors: Iterable[Tensor], *, kinds: int = KINDS) -> None:
        """`tensors`: all that passes read beside what they are given; by address. `kinds`: that may be recorded."""
        self._tensors = list(tensors)
        self._idle: dict[tuple[object, ...], list[Pass[Own, Found]]] = {}
        self._lent: list[tuple[list[Pass[Own, Found]], Pass[Own, Found]]] = []
        self._kinds, self._lends, self._recording = kinds, False, threading.Lock()

    def begin(self, *, lend: bool) -> None:
        """A batch, which ends what the last one was lent; `lend`: what is found is lent, and its passes are few."""
        for idle, one in self._lent:
            idle.append(one)
        self._lent, self._lends = [], lend

    @overload
    def __call__(self, given: Own, run: Callable[[Own], Found]) -> Found: ...

    @overload
    def __call__(self, given: Own, run: Callable[[Own], Found], keep: Callable[[Found], Kept]) -> Kept: ...

    def __call__(self, given: Own, run: Callable[[Own], Found], keep: Callable[[Found], Any] | None = None) -> Any:
        """What that finds, to the bit; from any thread. `keep`: what is wanted of it, in memory of its own."""
        idle = self._idle_of(given)
        one = None if idle is None else _played(idle, given) or self._recorded(given, run)
        if idle is None or one is None:
            found = run(given)
            return found if keep is None else keep(found)
        if self._lends and keep is None:
            self._lent.append((idle, one))
            return one.found
        found = copied(one.found) if keep is None else keep(one.found)
        idle.append(one)
        return found

    def _recorded(self, given: Own, run: Callable[[Own], Found]) -> Pass[Own, Found] | None:
        """None where that cannot be, or another thread is at it: it goes on with its next piece."""
        if not self._recording.acquire(blocking=False):
            return None
        try:
            return Pass(given, run)
        except RecordingError:
            self._kinds = 0
            return None
        finally:
            self._recording.release()

    def _idle_of(self, given: Own) -> list[Pass[Own, Found]] | None:
        """None where none is to be recorded, as for the first one of a kind, which may be the only one."""
        kind = given.kind if self._kinds else None
        if kind is None:
            return None
        shapes = tuple((number.shape, number.dtype) for number in given.numbers)
        key = (kind, shapes, *(tensor.data_ptr() for tensor in self._tensors))
        if key not in self._idle and len(self._idle) < self._kinds:
            self._idle[key] = []
            return None
        return self._idle.get(key)


def _played(idle: list[Pass[Any, Any]], given: Given) -> Pass[Any, Any] | None:
    """One of them, if there is one."""
    try:
        one = idle.pop()
    except IndexError:
        return None
    one.play(given)
    return one
