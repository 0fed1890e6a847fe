"""Workers have one math thread each; what threads make ahead comes in order, and faults in their turn."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from threading import Barrier, get_ident

import pytest
import torch

from funnelcast.runtime.threads import mapped, parallel_map, prefetch, threads, worker_pool


def _numbers(made: list[object], fault_at: int = -1) -> Generator[int]:
    try:
        for number in range(5):
            if number == fault_at:
                raise ValueError(f"no {number}")
            made.append(number)
            yield number
    finally:
        made.append("closed")


def test_all_come_in_order() -> None:
    made = list[object]()
    with prefetch(_numbers(made)) as items:
        assert list(items) == [0, 1, 2, 3, 4]
    assert made == [0, 1, 2, 3, 4, "closed"]


def test_the_next_one_is_made_meanwhile() -> None:
    made_second = threading.Event()

    def two() -> Generator[int]:
        yield 1
        made_second.set()
        yield 2

    with prefetch(two()) as items:
        assert next(items) == 1
        assert made_second.wait(timeout=10)
        assert list(items) == [2]


def test_a_fault_comes_after_what_was_made_before_it() -> None:
    got, made = list[int](), list[object]()
    with pytest.raises(ValueError, match="no 3"), prefetch(_numbers(made, fault_at=3)) as items:
        for number in items:
            got.append(number)
    assert got == [0, 1, 2]
    assert made == [0, 1, 2, "closed"]


def test_a_caller_that_stops_closes_the_generator() -> None:
    made, before = list[object](), threading.active_count()
    with pytest.raises(KeyError), prefetch(_numbers(made)) as items:
        raise KeyError(next(items))
    assert made in ([0, 1, 2, "closed"], [0, 1, "closed"], [0, "closed"])
    assert threading.active_count() == before


def _slow_first(number: int) -> int:
    if number == 0:
        assert _later.wait(timeout=10)
    if number == 1:
        _later.set()
    return number * number


_later = threading.Event()


def test_several_are_made_at_a_time_and_come_in_order() -> None:
    _later.clear()
    with threads(2) as pool:
        assert list(mapped(pool, _slow_first, range(6), 2)) == [0, 1, 4, 9, 16, 25]


def test_without_a_pool_each_is_made_when_asked_for() -> None:
    assert list(mapped(None, abs, [-1, 2], 7)) == [1, 2]


def test_no_more_are_taken_than_are_made_at_a_time() -> None:
    taken = list[int]()

    def numbers() -> Generator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    with threads(2) as pool:
        assert next(mapped(pool, abs, numbers(), 2)) == 0
        assert taken == [0, 1, 2]


def test_a_fault_of_a_function_is_raised_in_its_turn() -> None:
    got, before = list[float](), threading.active_count()
    with pytest.raises(ZeroDivisionError), threads(2) as pool:
        for number in mapped(pool, lambda x: 1 / x, [2, 1, 0, 4], 2):
            got.append(number)
    assert got == [0.5, 1.0]
    assert threading.active_count() == before


@pytest.fixture
def two_math_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_math_threads")
def test_one_worker_is_the_caller() -> None:
    with threads(1) as workers:
        assert workers is None and torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_math_threads")
def test_more_are_threads_of_their_own() -> None:
    parallel_map = Barrier(3, timeout=10)

    def work(_: int) -> tuple[int, int]:
        parallel_map.wait()
        return get_ident(), torch.get_num_threads()

    with threads(3) as workers:
        assert workers is not None
        found = list(workers.map(work, range(3)))
    assert len({ident for ident, _ in found}) == 3 and get_ident() not in {ident for ident, _ in found}
    assert [number for _, number in found] == [1, 1, 1]
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_math_threads")
def test_the_callers_number_comes_back_after_an_error() -> None:
    with pytest.raises(KeyboardInterrupt), threads(2):
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 2


def test_cores_are_those_that_the_process_may_use() -> None:
    ask = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); import funnelcast.runtime.threads as t"
    said = subprocess.run([sys.executable, "-c", f"{ask}; print(t.cores())"], stdout=subprocess.PIPE, check=True)
    assert said.stdout.strip() == b"1"


def test_what_is_shared_comes_in_order_and_the_caller_takes_the_first() -> None:
    meet = Barrier(2)

    def who(number: int) -> tuple[int, int]:
        meet.wait(timeout=10)  # so that no thread has both
        return number, get_ident()

    with worker_pool(2) as pool:
        (zero, here), (one, there) = parallel_map(pool, who, range(2))
    assert (zero, one) == (0, 1) and here == get_ident() != there


def test_the_caller_takes_what_nobody_has_begun() -> None:
    held = threading.Event()
    with worker_pool(2) as pool:
        assert pool is not None
        busy = [pool.submit(held.wait, 10)]
        try:
            assert set(parallel_map(pool, lambda _: get_ident(), range(5))) == {get_ident()}
        finally:
            held.set()
        assert all(each.result() for each in busy)


@pytest.mark.parametrize("nested", [False, True])
def test_no_more_share_than_there_are_threads(nested: bool) -> None:
    """The caller is one of them, who waits for another one at first; a share that is shared in turn adds nobody."""
    busy, most, lock, met = 0, 0, threading.Lock(), Barrier(2)

    def work(number: int) -> int:
        nonlocal busy, most
        with lock:
            busy, most = busy + 1, max(most, busy + 1)
        if number in ((0, 4) if nested else (0, 1)):
            met.wait(timeout=10)
        time.sleep(0.01)
        with lock:
            busy -= 1
        return number

    with worker_pool(2) as pool:
        if nested:
            shares = parallel_map(pool, lambda i: parallel_map(pool, work, range(4 * i, 4 * i + 4)), range(2))
            assert shares == [[0, 1, 2, 3], [4, 5, 6, 7]]
        else:
            assert parallel_map(pool, work, range(8)) == list(range(8))
    assert most == 2


def test_nobody_begins_what_is_left_after_a_fault_of_the_caller() -> None:
    begun, met = list[int](), Barrier(2)

    def work(number: int) -> None:
        begun.append(number)
        if number < 2:
            met.wait(timeout=10)
        if number == 0:
            raise ValueError("no")
        time.sleep(0.2)  # until the caller has failed

    with worker_pool(2) as pool, pytest.raises(ValueError, match="no"):
        parallel_map(pool, work, range(20))
    assert len(begun) <= 3


def test_without_threads_the_caller_does_it_all() -> None:
    assert parallel_map(None, abs, [-1, 2]) == [1, 2] and parallel_map(None, abs, []) == []


def test_shared_work_may_share_in_turn() -> None:
    """No thread waits for a share that waits for a thread."""
    with worker_pool(2) as pool:
        found = parallel_map(pool, lambda i: parallel_map(pool, lambda j: 10 * i + j, range(3)), range(4))
    assert found == [[10 * i + j for j in range(3)] for i in range(4)]


@pytest.mark.parametrize("fault", [0, 1])
def test_a_fault_of_a_share_waits_for_the_others(fault: int) -> None:
    begun, done = Barrier(2), list[int]()

    def work(number: int) -> None:
        begun.wait(timeout=10)
        if number == fault:
            raise ValueError(f"no {number}")
        done.append(number)

    with worker_pool(2) as pool:
        with pytest.raises(ValueError, match=f"no {fault}"):
            parallel_map(pool, work, range(2))
        assert done == [1 - fault]
