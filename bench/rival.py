"""A peer's process, which works in its spells alone and is stopped between them.

It is told to go on by a line, and tells by one that it is there. Linux and macOS.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Any, Self

LEAST = 1.0
"""Seconds that work which can be repeated is timed for."""


class Rival:
    """Work of another process, and the seconds that it had."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.is_done, self._works, self._repeated = True, False, False
        self.seconds = self.cpu = 0.0
        self.spells = self.passes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._process:
            self._process.kill()

    def prepare(self) -> dict[str, Any]:
        """Before the clock starts; what the process tells then. Raises CalledProcessError."""
        self.seconds = self.cpu = 0.0
        self.spells = self.passes = 0
        self._say("prepare")
        return self._answer()

    def begin(self, *, repeated: bool) -> None:
        """What was prepared begins in the next spell; `repeated`: once more where it took less than `LEAST`."""
        self.is_done, self._repeated = False, repeated

    def spell(self, seconds: float) -> None:
        """It works for so long, or until it is done. Raises CalledProcessError."""
        if self.is_done:
            return
        started = time.perf_counter()
        if self._works:
            os.kill(self._process.pid, signal.SIGCONT)
        else:
            self._say("run")
        self._works = not select.select([self._out], [], [], seconds)[0]
        if self._works:
            os.kill(self._process.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        self.seconds += time.perf_counter() - started
        self.spells += 1
        if not self._works:
            self.passes, self.cpu = self.passes + 1, self.cpu + self._answer()["cpu"]
            self.is_done = not (self._repeated and self.seconds < LEAST)

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n".encode())

    @property
    def _out(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def _answer(self) -> dict[str, Any]:
        line = self._out.readline()
        if not line:
            raise subprocess.CalledProcessError(self._process.wait(), self._process.args)
        answer: dict[str, Any] = json.loads(line)
        return answer
