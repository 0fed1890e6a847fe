"""Items that threads take through several functions, as many at once, of which all but the first keep their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Condition, Lock
from typing import Any


def in_order(number: int, items: Iterable[Any], first: Callable[[Any], Any], *then: Callable[[Any], Any]) -> None:
    """Each item goes through `first` in one of `number` threads, the caller's among them, and what comes of it through
    `then`: each of these takes one after the other, in the items' order. An item stays with its thread, and what was
    made of it in a core's cache.

    What is raised over an item is raised when those before it are through; those after it go no further.
    """
    line = _Line(items, first, then)
    with ThreadPoolExecutor(max(1, number - 1)) as pool:
        try:
            others = [pool.submit(line.work) for _ in range(number - 1)]
            line.work()
            wait(others)
        except BaseException as fault:
            line.stop(-1, fault)
    if line.faults:
        raise line.faults[min(line.faults)]


class _StoppedError(Exception):
    """An item before this one had a fault."""


class _Line:
    """Items on their way through `in_order`."""

    def __init__(self, items: Iterable[Any], first: Callable[[Any], Any], then: Sequence[Callable[[Any], Any]]) -> None:
        self.faults: dict[int, BaseException] = {}
        """By the number of the item."""
        self._items, self._first, self._then = iter(items), first, then
        self._begun, self._beginning = 0, Lock()
        self._through, self._moved = [0] * len(then), Condition()  # items that each of `then` is done with

    def work(self) -> None:
        while not self.faults and self._work_on_one():
            pass

    def stop(self, number: int, fault: BaseException) -> None:
        """There was a fault over this item: those after it wait for nothing more."""
        with self._moved:
            self.faults[number] = fault
            self._moved.notify_all()

    def _work_on_one(self) -> bool:
        """Whether there was one."""
        number = -1
        try:
            with self._beginning:
                number = self._begun
                item = next(self._items, self)
                self._begun += 1
            if item is self:
                return False
            made = self._first(item)
            for at, function in enumerate(self._then):
                self._wait(at, number)
                made = function(made)
                with self._moved:
                    self._through[at] += 1
                    self._moved.notify_all()
        except _StoppedError:
            return False
        except BaseException as fault:
            self.stop(number, fault)
        return True

    def _wait(self, at: int, number: int) -> None:
        """For the items before. Raises _StoppedError where they do not come."""
        with self._moved:
            self._moved.wait_for(lambda: self._through[at] == number or min(self.faults, default=number) < number)
            if min(self.faults, default=number) < number:
                raise _StoppedError
