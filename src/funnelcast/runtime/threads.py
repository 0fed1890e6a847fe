"""The cores there are, threads that share a batch, and items that threads make while others are worked on."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from threading import Lock
from typing import Any, TypeVar

PREFETCHED = 2
"""Large and small items may alternate."""
Item = TypeVar("Item")
Made = TypeVar("Made")


def cores() -> int:
    """Those that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # where processes are not tied to cores
        return os.cpu_count() or 1


class Workers(ThreadPoolExecutor):
    """Threads for `parallel_map` and `mapped`."""

    def __init__(self, number: int, **more: Any) -> None:
        super().__init__(number, **more)
        self.number = number


def threads(workers: int) -> AbstractContextManager[Workers | None]:
    """So many threads with one math thread each and flush to zero, for a caller that waits; none for one, whose work
    the caller does, then with one math thread and flush to zero too."""
    return _threads(workers if workers > 1 else 0)


def worker_pool(workers: int) -> AbstractContextManager[Workers | None]:
    """The threads next to the caller, who is one of `workers`, for `parallel_map`; none for one."""
    return _threads(workers - 1)


@contextmanager
def _threads(number: int) -> Iterator[Workers | None]:
    """The number of math threads is each thread's own; a new one that goes straight to BLAS has the machine's, and with
    two or more the last bits of a product differ. Flush to zero is a thread's own as well."""
    import torch  # takes most of a second, and data are prepared without it

    from funnelcast.runtime.subnormals import flush_to_zero

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with flush_to_zero():
            if number == 0:
                yield None
            else:
                with Workers(number, initializer=begin_thread) as pool:
                    yield pool
    finally:
        torch.set_num_threads(before)


def begin_thread() -> None:
    """Set one math thread and flush to zero, for as long as this thread lives."""
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


@contextmanager
def prefetch(items: Generator[Item]) -> Iterator[Iterator[Item]]:
    """Gives `items`, of which a thread makes the next `AHEAD` while the caller works on one, with flush to zero.

    What the generator raises is raised in its turn. On leaving the generator is closed: nothing of it runs on.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch", initializer=begin_thread) as thread:
        try:
            yield _prefetched(items, thread)
        finally:
            thread.submit(items.close).result()


def _prefetched(items: Generator[Item], thread: ThreadPoolExecutor) -> Iterator[Item]:
    end: Any = object()
    coming = deque(thread.submit(next, items, end) for _ in range(PREFETCHED))
    while (item := coming.popleft().result()) is not end:
        coming.append(thread.submit(next, items, end))
        yield item


def parallel_map(pool: Workers | None, function: Callable[[Item], Made], items: Sequence[Item]) -> list[Made]:
    """`function` of each item, by this thread and those of `pool` that are idle: to wake one up takes longer than to
    begin. Each takes the next item when it is done with one. A share may be shared in turn."""
    if pool is None or len(items) < 2:
        return list(map(function, items))
    made, left, one_by_one = dict[int, Made](), enumerate(items), Lock()

    def following() -> tuple[int, Item] | None:
        with one_by_one:
            return next(left, None)

    def work(item: tuple[int, Item] | None) -> None:
        while item is not None:
            made[item[0]] = function(item[1])
            item = following()

    first = following()
    others = [pool.submit(lambda: work(following())) for _ in range(min(pool.number, len(items) - 1))]
    try:
        work(first)
    except BaseException:
        with one_by_one:
            left = enumerate(())  # nobody begins another one
        raise
    finally:
        wait([other for other in others if not other.cancel()])
    for other in others:
        if not other.cancelled():
            other.result()
    return [made[i] for i in range(len(made))]


def run_job(job: Callable[[], Made]) -> Made:
    """What a job makes, for `parallel_map`."""
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
