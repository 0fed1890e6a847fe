"""Killing a process before every single one of its operations on files: what random moments hardly ever meet."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate")


def kills(before: Callable[[], object], act: Callable[[], object]) -> Iterator[int]:
    """For 0, 1, … run `before`, kill `act` before its operation of that number, yield; until it ends on its own."""
    for number in count():
        before()
        child = os.fork()
        if child == 0:
            _run_and_exit(number, act)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == 0:
            return
        assert status == -signal.SIGKILL
        yield number


def _run_and_exit(number: int, act: Callable[[], object]) -> None:
    left = iter(range(number))

    def on_event(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in CHANGES) and next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(on_event)
    try:
        act()
        os._exit(0)
    finally:
        os._exit(1)
