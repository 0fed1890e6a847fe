"""The cores there are, threads that share a batch, and items that threads make while others are worked on."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, TypeVar

AHEAD = 2
"""Large and small items may come in turns."""
Item = TypeVar("Item")
Made = TypeVar("Made")


def cores() -> int:
    """Those that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # where processes are not tied to cores
        return os.cpu_count() or 1


class Workers(ThreadPoolExecutor):
    """Threads for `together` and `mapped`."""

    def __init__(self, number: int, **more: Any) -> None:
        super().__init__(number, **more)
        self.number = number


@contextmanager
def threads(workers: int) -> Iterator[Workers | None]:
    """Worker threads with one math thread each, or none for one worker.

    The number of math threads is each thread's own; a new one that goes straight to BLAS has the machine's, and with
    two or more the last bits of a product differ.
    """
    import torch  # takes most of a second, and data are prepared without it

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if workers == 1:
            yield None
        else:
            with Workers(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                yield pool
    finally:
        torch.set_num_threads(before)


@contextmanager
def ahead(items: Generator[Item]) -> Iterator[Iterator[Item]]:
    """Gives `items`, of which a thread makes the next `AHEAD` while the caller works on one.

    What the generator raises is raised in its turn. On leaving the generator is closed: nothing of it runs on.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        try:
            yield _made_ahead(items, thread)
        finally:
            thread.submit(items.close).result()


def _made_ahead(items: Generator[Item], thread: ThreadPoolExecutor) -> Iterator[Item]:
    end: Any = object()
    coming = deque(thread.submit(next, items, end) for _ in range(AHEAD))
    while (item := coming.popleft().result()) is not end:
        coming.append(thread.submit(next, items, end))
        yield item


def together(pool: Workers | None, function: Callable[[Item], Made], items: Sequence[Item]) -> list[Made]:
    """`function` of each item, by this thread and those of `pool`, if there is one, as many as it has in all: to wake
    another one up takes longer than to begin. Each takes the next item when it is done with one."""
    if pool is None or len(items) < 2:
        return list(map(function, items))
    made, left = dict[int, Made](), iter(range(1, len(items)))

    def work(item: int | None) -> None:
        while item is not None:
            made[item] = function(items[item])
            item = next(left, None)

    others = [pool.submit(lambda: work(next(left, None))) for _ in range(min(pool.number, len(items)) - 1)]
    try:
        work(0)
    except BaseException:
        deque(left, maxlen=0)  # nobody begins another one
        raise
    finally:
        wait([other for other in others if not other.cancel()])
    for other in others:
        if not other.cancelled():
            other.result()
    return [made[i] for i in range(len(items))]


def called(job: Callable[[], Made]) -> Made:
    """What a job makes, for `together`."""
    return job()


def mapped(pool: Executor | None, function: Callable[[Item], Made], items: Iterable[Item], most: int) -> Iterator[Made]:
    """`function` of each item in their order, of which the threads of `pool` make the next ones, `most` at a time; one
    after the other without a pool."""
    if pool is None:
        yield from map(function, items)
        return
    coming = deque[Future[Made]]()
    for item in items:
        coming.append(pool.submit(function, item))
        if len(coming) > most:
            yield coming.popleft().result()
    while coming:
        yield coming.popleft().result()
