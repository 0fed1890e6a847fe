"""Messages between the front and a scoring process: a JSON head and a body of bytes, each behind its length."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any, Final, NamedTuple

import orjson

LENGTHS: Final = struct.Struct("<II")
"""Bytes of the head and of the body."""


class Message(NamedTuple):
    """A request or an answer."""

    head: dict[str, Any]
    body: bytes = b""

    def packed(self) -> bytes:
        """As it goes over a socket."""
        head = orjson.dumps(self.head)
        return b"".join((LENGTHS.pack(len(head), len(self.body)), head, self.body))


class Channel:
    """The scoring process's end: one message after the other."""

    def __init__(self, end: socket.socket) -> None:
        self._end, self._reading = end, end.makefile("rb")

    def receive(self) -> Message | None:
        """The next message; None when the front has gone."""
        if len(lengths := self._reading.read(LENGTHS.size)) < LENGTHS.size:
            return None
        head, body = LENGTHS.unpack(lengths)
        content = self._reading.read(head + body)
        return Message(orjson.loads(content[:head]), content[head:]) if len(content) == head + body else None

    def send(self, message: Message) -> None:
        """Raises OSError when the front has gone."""
        self._end.sendall(message.packed())


async def read_message(reader: asyncio.StreamReader) -> Message:
    """The next message at the front's end. Raises IncompleteReadError when the process has gone."""
    head, body = LENGTHS.unpack(await reader.readexactly(LENGTHS.size))
    content = await reader.readexactly(head + body)
    return Message(orjson.loads(content[:head]), content[head:])
