"""Items go through functions in threads; all but the first function have them in their order, faults too."""

import time
from collections.abc import Callable
from functools import partial
from threading import Barrier, Event, get_ident
from typing import Any

import pytest

from funnelcast.data import in_order as module
from funnelcast.data.in_order import in_order


@pytest.mark.parametrize("number", [1, 2, 5])
def test_items_go_through_in_their_order(number: int) -> None:
    """Whichever thread has them: the first function takes them in any order, each of the others in the items'."""
    second, third, threads_of = list[int](), list[int](), dict[int, set[int]]()

    def first(item: int) -> int:
        time.sleep(0.002 * (item % 3))
        threads_of[item] = {get_ident()}
        return item

    def then(item: int) -> int:
        second.append(item)
        threads_of[item].add(get_ident())
        return -item

    in_order(number, range(20), first, then, third.append)
    assert second == list(range(20)) and third == [-item for item in range(20)]
    assert all(len(each) == 1 for each in threads_of.values())
    assert len(set.union(*threads_of.values())) <= number


def test_items_are_on_their_way_at_once() -> None:
    both = Barrier(2, timeout=10)
    in_order(2, range(2), lambda item: both.wait(), lambda item: None)
    one_each = Barrier(2, timeout=10)  # the second item is begun while the first one is in the second function
    in_order(2, range(2), lambda item: item and one_each.wait(), lambda item: item == 0 and one_each.wait())


@pytest.mark.parametrize("number", [1, 2, 5])
@pytest.mark.parametrize("where", ["items", "first", "then", "last"])
@pytest.mark.parametrize("fault", [ValueError, StopIteration])
def test_a_fault_over_an_item_is_raised_when_those_before_it_are_through(
    number: int, where: str, fault: type[Exception]
) -> None:
    through = list[int]()

    def noted(here: str, item: int) -> int:
        if here == where and item in (7, 9):
            raise fault(f"{item} in {here}")
        time.sleep(0.001 * (item % 2))
        return item

    items = (noted("items", item) for item in range(20))
    expected = RuntimeError if (fault, where) == (StopIteration, "items") else fault  # as Python has it of generators
    with pytest.raises(expected, match=None if expected is RuntimeError else f"7 in {where}"):
        in_order(
            number,
            items,
            partial(noted, "first"),
            partial(noted, "then"),
            lambda item: through.append(noted("last", item)),
        )
    assert through == list(range(7))


def test_of_two_faults_that_of_the_item_before_is_raised() -> None:
    both = Barrier(2, timeout=10)

    def fail(item: int) -> None:
        both.wait()
        time.sleep(0.05 * (1 - item))
        raise ValueError(f"over {item}")

    with pytest.raises(ValueError, match="over 0"):
        in_order(2, range(2), fail)


def test_who_interrupts_waits_for_nothing_more() -> None:
    """As Ctrl-C does, which comes while the caller has an item."""
    begun, caller = list[int](), get_ident()

    def first(item: int) -> None:
        begun.append(item)
        if get_ident() == caller:
            raise KeyboardInterrupt
        time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        in_order(3, range(1000), first)
    assert len(begun) < 10


def test_an_interrupt_may_come_while_the_caller_waits_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, caller, is_over = list[int](), get_ident(), Event()

    def first(item: int) -> None:
        begun.append(item)
        if get_ident() == caller:
            is_over.set()
        else:
            is_over.wait(10)
            time.sleep(0.01)

    def wait(others: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "wait", wait)
    monkeypatch.setattr(module._Line, "work", _once_for(caller, module._Line.work))
    with pytest.raises(KeyboardInterrupt):
        in_order(2, range(1000), first)
    assert len(begun) < 10


def _once_for(caller: int, work: Callable[[Any], None]) -> Callable[[Any], None]:
    """The caller takes one item, the others go on."""
    return lambda line: line._work_on_one() if get_ident() == caller else work(line)
