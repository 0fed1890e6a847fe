"""All scoring processes of a server: who is asked, who waits, and how new ones take over."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from funnelcast.errors import FunnelcastError
from funnelcast.server.logs import log
from funnelcast.server.messages import Message
from funnelcast.server.refused import RefusedError, busy
from funnelcast.server.scorer import Scorer
from funnelcast.server.settings import Settings

Check = Callable[[dict[str, Any]], None]
"""Raises FunnelcastError for a description."""
AHEAD: Final = 2
"""Requests that a process has at once, so that it need not wait for the next one."""
LONGEST_PAUSE: Final = 30.0
"""Seconds between attempts to start a process in the place of one that ended."""


class Scorers:
    """The processes of one bundle, of which each new request goes to the one with the fewest."""

    def __init__(self, settings: Settings, role: str = "") -> None:
        """`role`: stands before the events of the log."""
        self.settings, self._role = settings, role
        self.restarts = 0
        """Times that processes were started in the place of ones that had ended by themselves."""
        self.loaded = True
        """Whether the model shall be served."""
        self._own: list[Scorer] = []
        self._waiting = deque[asyncio.Future[None]]()
        self._changing = asyncio.Lock()
        self._tasks = set[asyncio.Task[Any]]()

    @property
    def description(self) -> dict[str, Any] | None:
        """Of the model; none while it is not ready."""
        return self._own[0].description if self._own else None

    @property
    def waiting(self) -> int:
        """Requests that no process has yet."""
        return len(self._waiting)

    async def ask(self, head: dict[str, Any], body: bytes, seconds: float | None = None) -> Message:
        """The answer to a request, which waits at most `seconds` for a free process. Raises RefusedError."""
        most = self.settings.limits.seconds
        head |= {"arrived": time.monotonic(), "seconds": most if seconds is None else min(most, seconds)}
        scorer = self._free()
        while scorer is None:
            await self._wait()
            if (waited := time.monotonic() - head["arrived"]) > head["seconds"]:
                self._wake()
                raise RefusedError(504, f"the request waited {waited:.3f} s of the {head['seconds']:g} s that it had")
            scorer = self._free()
        return await scorer.ask(head, body)

    async def figures(self) -> list[dict[str, Any]]:
        """What each process says of the rows that it scored."""
        answers = await asyncio.gather(*(each.ask({"kind": "figures"}) for each in self._own), return_exceptions=True)
        return [each.head["figures"] for each in answers if not isinstance(each, BaseException)]

    def _free(self) -> Scorer | None:
        """One that may be asked. Raises RefusedError where there is none at all."""
        if not self._own:
            raise busy("the model is not ready; try again")
        least = min(self._own, key=lambda scorer: scorer.load)
        return least if least.load < AHEAD else None

    async def _wait(self) -> None:
        if len(self._waiting) >= self.settings.limits.queue:
            raise busy(f"{len(self._waiting)} requests wait already; try again, or send fewer at a time")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            with suppress(ValueError):
                self._waiting.remove(turn)
            self._wake()
            raise

    def _wake(self, number: int = 1) -> None:
        while self._waiting and number:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                number -= 1

    async def replace(self, *, low: bool = True, check: Check | None = None) -> None:
        """Start processes that load what the bundle's folder has now, let them take over when all are warm, and end the
        others when these have answered. `check`: of the new description, before. Raises FunnelcastError, and goes on as
        before, where that fails."""
        async with self._changing:
            await self._replace(low, check)

    async def _replace(self, low: bool, check: Check | None = None) -> None:
        started = time.monotonic()
        number, scoring = self.settings.processes, self.settings.scoring
        starting = [asyncio.create_task(Scorer.start(scoring, low=low)) for _ in range(number)]
        new = await _all_or_none(starting)
        versions = {scorer.description["version"] for scorer in new}
        if len(versions) > 1:
            await _stop(new)
            raise FunnelcastError(f"{scoring.bundle} changed while it was loaded; load it again")
        if check is not None:
            try:
                check(new[0].description)
            except FunnelcastError:
                await _stop(new)
                raise
        old, self._own, self.loaded = self._own, new, True
        for scorer in new:
            scorer.on_end, scorer.on_answer = self._lost, self._wake
        self._wake(AHEAD * number)
        log(self._role + "ready", version=versions.pop(), seconds=round(time.monotonic() - started, 3))
        self.in_background(_stop(old))

    async def unload(self) -> None:
        """End all processes when they have answered, until `replace`."""
        async with self._changing:
            self.loaded = False
            old, self._own = self._own, []
            self._wake(len(self._waiting))
            await _stop(old)

    def reload(self) -> None:
        """Replace all in the background; the log says how it ended."""
        self.in_background(self._reload())

    async def _reload(self) -> None:
        try:
            await self.replace()
        except FunnelcastError as error:
            log(self._role + "failed", error=str(error))

    async def close(self, *, kill: bool = False) -> None:
        """End all that is under way, and the processes: when they have answered, or at once (`kill`)."""
        self.loaded = False
        for scorer in self._own if kill else []:
            scorer.kill()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await _stop(self._own)

    def _lost(self, scorer: Scorer) -> None:
        """A process ended by itself."""
        self._own = [other for other in self._own if other is not scorer]
        log(self._role + "lost", pid=scorer.process.pid)
        if not self._own:
            self._wake(len(self._waiting))
        self.in_background(self._restart())

    async def _restart(self) -> None:
        pause = 0.1
        while self.loaded and len(self._own) < self.settings.processes:
            try:
                async with self._changing:
                    if self.loaded:  # or a client has unloaded the model meanwhile
                        await self._replace(low=bool(self._own))
                        self.restarts += 1
            except FunnelcastError as error:
                log(self._role + "failed", error=str(error))
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Work that goes on when nobody waits for it any more."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _all_or_none(starting: list[asyncio.Task[Scorer]]) -> list[Scorer]:
    found = await asyncio.gather(*starting, return_exceptions=True)
    failed = [each for each in found if isinstance(each, BaseException)]
    new = [each for each in found if not isinstance(each, BaseException)]
    if failed:
        await _stop(new)
        raise failed[0]
    return new


async def _stop(scorers: list[Scorer]) -> None:
    for scorer in scorers:
        await scorer.stop()
