"""The cores there are, and items that threads make while others are worked on."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def cores() -> int:
    """Those that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # where processes are not tied to cores
        return os.cpu_count() or 1


@contextmanager
def ahead(items: Generator[Item]) -> Iterator[Iterator[Item]]:
    """Gives `items`, of which a thread makes one while the caller works on the one before.

    What the generator raises is raised in its turn. On leaving the generator is closed: nothing of it runs on.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        try:
            yield _made_ahead(items, thread)
        finally:
            thread.submit(items.close).result()


def _made_ahead(items: Generator[Item], thread: ThreadPoolExecutor) -> Iterator[Item]:
    end: Any = object()
    coming = thread.submit(next, items, end)
    while (item := coming.result()) is not end:
        coming = thread.submit(next, items, end)
        yield item


@contextmanager
def mapped(function: Callable[[Item], Made], items: Iterable[Item], workers: int) -> Iterator[Iterator[Made]]:
    """Gives `function` of each item in their order, of which as many threads make the next ones.

    At most `workers` of them wait. On leaving nothing is begun any more.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="mapped") as pool:
        try:
            yield _made_by(pool, function, items, workers)
        finally:
            pool.shutdown(cancel_futures=True)


def _made_by(
    pool: ThreadPoolExecutor, function: Callable[[Item], Made], items: Iterable[Item], workers: int
) -> Iterator[Made]:
    coming = deque[Future[Made]]()
    for item in items:
        coming.append(pool.submit(function, item))
        if len(coming) > workers:
            yield coming.popleft().result()
    while coming:
        yield coming.popleft().result()
