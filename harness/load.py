"""Requests to a server: at random times, whatever it answers, or as many as it answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, cycle
from typing import Final

import numpy as np

from harness.show import say

TIMER: Final = 0.0012
"""Seconds by which the event loop may wake up late."""

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Sent:
    """One request."""

    due: float
    """When it was to be sent, by time.perf_counter."""
    seconds: float
    """From then until the whole answer was there."""
    status: int


def post(path: str, body: bytes, **headers: str) -> bytes:
    """A request as it is sent."""
    lines = [f"POST {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Connections:
    """Kept alive, to one server; as many as there are requests at once."""

    def __init__(self, url: str) -> None:
        self._host, _, port = url.rpartition(":")
        self._port = int(port)
        self._idle: list[Connection] = []

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body."""
        reader, writer = found = await self._connection()
        writer.write(request)
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines if line)
        body = await reader.readexactly(int(headers[b"content-length"]))
        if headers.get(b"connection") == b"close":
            writer.close()
        else:
            self._idle.append(found)
        return int(first.split()[1]), body

    async def _connection(self) -> Connection:
        """One that is idle and that the server has not closed meanwhile, or else a new one."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self._host, self._port)

    def close(self) -> None:
        """All of them."""
        for _, writer in self._idle:
            writer.close()


async def poisson(url: str, requests: Sequence[bytes], rate: float, seconds: float, seed: int = 0) -> list[Sent]:
    """Send requests in rotation at the times of a Poisson process, `rate` a second."""
    server, sent, tasks = Connections(url), list[Sent](), list[asyncio.Task[None]]()
    gaps = np.random.default_rng(seed).exponential(1 / rate, round(rate * seconds))

    async def one(due: float, request: bytes) -> None:
        status, _ = await server.ask(request)
        sent.append(Sent(due, time.perf_counter() - due, status))

    for due, request in zip(time.perf_counter() + np.cumsum(gaps), cycle(requests), strict=False):
        while (left := due - time.perf_counter()) > 0:
            await asyncio.sleep(max(0.0, left - TIMER))
        tasks.append(asyncio.create_task(one(due, request)))
    await asyncio.gather(*tasks)
    server.close()
    return sent


async def saturated(url: str, requests: Sequence[bytes], seconds: float, at_once: int = 4) -> float:
    """Requests a second that it answers when it always has some."""
    server, numbers, started = Connections(url), count(), time.perf_counter()

    async def one_after_the_other() -> int:
        done = 0
        while time.perf_counter() - started < seconds:
            status, body = await server.ask(requests[next(numbers) % len(requests)])
            if status != 200:
                say(f"{status}: {body!r}")
            done += 1
        return done

    done = sum(await asyncio.gather(*(one_after_the_other() for _ in range(at_once))))
    server.close()
    return done / (time.perf_counter() - started)
