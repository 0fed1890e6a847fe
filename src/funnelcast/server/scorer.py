"""The front's side of a scoring process."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from funnelcast.errors import FunnelcastError
from funnelcast.server.messages import Message, read_message
from funnelcast.server.refused import busy
from funnelcast.server.settings import Scoring

MODULE = "funnelcast.server.scoring_process"


class Scorer:
    """A process that has loaded the bundle. It answers in the order of the questions."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        description: dict[str, Any],
    ) -> None:
        self.process, self.description = process, description
        self.on_end: Callable[[Scorer], None] = _ignore
        """Called when the process ends by itself."""
        self.on_answer: Callable[[], None] = lambda: None
        """Called after each answer, also where nobody waits for it any more."""
        self._reader, self._writer = reader, writer
        self._pending = deque[asyncio.Future[Message]]()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, scoring: Scoring, *, low: bool = False) -> Scorer:
        """When it is warm. `low`: load at a low priority, next to processes that serve. Raises FunnelcastError for what
        cannot be served, and where the process ends before it is ready."""
        own, other = socket.socketpair()
        with other:
            command = (sys.executable, "-m", MODULE, str(other.fileno()))
            process = await asyncio.create_subprocess_exec(*command, pass_fds=[other.fileno()])
        reader, writer = await asyncio.open_connection(sock=own, limit=1 << 20)
        try:
            writer.write(Message({"scoring": scoring.as_dict(), "low": low}).packed())
            answer = await read_message(reader)
        except (asyncio.IncompleteReadError, OSError):
            raise FunnelcastError(
                f"the process that loads {scoring.bundle} ended with {await process.wait()}; the log says why"
            ) from None
        except asyncio.CancelledError:
            with suppress(ProcessLookupError):
                process.kill()
            raise
        if answer.head["status"] != 200:
            writer.close()
            raise FunnelcastError(answer.head["error"])
        return cls(process, reader, writer, answer.head)

    @property
    def load(self) -> int:
        """Requests that it has not answered."""
        return len(self._pending)

    @property
    def has_ended(self) -> bool:
        """Whether it answers no more."""
        return self._reading.done()

    async def ask(self, head: dict[str, Any], body: bytes = b"") -> Message:
        """The answer. Raises RefusedError where the process ends before."""
        if self.has_ended:
            raise _ended()
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._pending.append(answer)
        self._writer.write(Message(head, body).packed())
        return await answer

    async def stop(self) -> None:
        """Let it answer what it was asked, then end it."""
        self.on_end = _ignore
        while self._pending and not self.has_ended:
            await asyncio.wait([self._pending[-1]])
        self._writer.close()
        await self.process.wait()

    def kill(self) -> None:
        """End it at once, whatever it was asked."""
        self.on_end = _ignore
        with suppress(ProcessLookupError):
            self.process.kill()

    async def _read(self) -> None:
        try:
            while True:
                message = await read_message(self._reader)
                answer = self._pending.popleft()
                if not answer.done():
                    answer.set_result(message)
                self.on_answer()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            for answer in self._pending:
                if not answer.done():
                    answer.set_exception(_ended())
            self._writer.close()
            self.on_end(self)


def _ended() -> Exception:
    return busy("the scoring process ended, and another one starts; try again")


def _ignore(scorer: Scorer) -> None:
    pass
