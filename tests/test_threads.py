"""Items that a thread makes ahead come in order, faults in their turn, and nothing runs on."""

from __future__ import annotations

import threading
from collections.abc import Generator

import pytest

from funnelcast.threads import ahead, mapped


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
    with ahead(_numbers(made)) as items:
        assert list(items) == [0, 1, 2, 3, 4]
    assert made == [0, 1, 2, 3, 4, "closed"]


def test_the_next_one_is_made_meanwhile() -> None:
    made_second = threading.Event()

    def two() -> Generator[int]:
        yield 1
        made_second.set()
        yield 2

    with ahead(two()) as items:
        assert next(items) == 1
        assert made_second.wait(timeout=10)
        assert list(items) == [2]


def test_a_fault_comes_after_what_was_made_before_it() -> None:
    got, made = list[int](), list[object]()
    with pytest.raises(ValueError, match="no 3"), ahead(_numbers(made, fault_at=3)) as items:
        for number in items:
            got.append(number)
    assert got == [0, 1, 2]
    assert made == [0, 1, 2, "closed"]


def test_a_caller_that_stops_closes_the_generator() -> None:
    made, before = list[object](), threading.active_count()
    with pytest.raises(KeyError), ahead(_numbers(made)) as items:
        raise KeyError(next(items))
    assert made in ([0, 1, "closed"], [0, "closed"])
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
    with mapped(_slow_first, range(6), 2) as made:
        assert list(made) == [0, 1, 4, 9, 16, 25]


def test_no_more_are_taken_than_wait() -> None:
    taken = list[int]()

    def numbers() -> Generator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    with mapped(abs, numbers(), 2) as made:
        assert next(made) == 0
        assert taken == [0, 1, 2]


def test_a_fault_of_a_function_is_raised_in_its_turn() -> None:
    got, before = list[float](), threading.active_count()
    with pytest.raises(ZeroDivisionError), mapped(lambda x: 1 / x, [2, 1, 0, 4], 2) as made:
        for number in made:
            got.append(number)
    assert got == [0.5, 1.0]
    assert threading.active_count() == before
