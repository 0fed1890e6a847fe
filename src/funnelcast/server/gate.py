"""What every request passes: who may ask, how many at once, and a line of the log and the figures after it."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from funnelcast.server import page_routes
from funnelcast.server.headers import GRPC
from funnelcast.server.logs import log
from funnelcast.server.refused import RefusedError, busy

OPEN: Final = (
    "/v2/health/live", "/v2/health/ready", f"{GRPC}ServerLive", f"{GRPC}ServerReady", *page_routes.OPEN
)  # fmt: skip
"""What a load balancer asks, and pages without figures: they need no key."""
MOST: Final = 1024
"""Requests at once, those whose bodies still come among them."""


class Gate:
    """An application behind keys. Every refusal is the protocol's `{"error": …}`."""

    def __init__(
        self, app: ASGIApp, keys: Sequence[str], log_requests: bool, on_end: Callable[[str, int, float], None]
    ) -> None:
        """`on_end`: is given the path, the status and the seconds of each request."""
        self._app, self._log, self._on_end = app, log_requests, on_end
        self._keys = [_digest(key.encode()) for key in keys]
        self._active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        started = self.begin()
        try:
            self.check(scope["path"], dict(scope["headers"]))
            await self._app(scope, receive, watched)
        except RefusedError as refused:
            await send_error(watched, refused)
        finally:
            self.end(started, scope["method"], scope["path"], status)

    def begin(self) -> float:
        """A request has come; what it returns goes to `end`."""
        self._active += 1
        return time.perf_counter()

    def check(self, path: str, headers: Mapping[bytes, bytes]) -> None:
        """Raises RefusedError for a request that may not be served."""
        if self._active > MOST:
            raise busy(f"{MOST} requests are open; try again")
        if self._keys and path not in OPEN and not self._is_known(headers):
            message = "the request has no known API key; send it as the header authorization: Bearer KEY"
            raise RefusedError(401, message, {"www-authenticate": "Bearer"})

    def end(self, started: float, method: str, path: str, status: int) -> None:
        """A request that has begun is over: count and log it."""
        self._active -= 1
        seconds = time.perf_counter() - started
        self._on_end(path, status, seconds)
        if self._log:
            log("request", method=method, path=path, status=status, ms=round(1e3 * seconds, 3))

    def _is_known(self, headers: Mapping[bytes, bytes]) -> bool:
        """In a time that says nothing of the keys: all are compared, by digests of one length."""
        given = headers.get(b"x-api-key") or headers.get(b"authorization", b"").removeprefix(b"Bearer ")
        found = [hmac.compare_digest(_digest(given), key) for key in self._keys]
        return any(found)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


async def send_error(send: Any, refused: RefusedError) -> None:
    """An answer of `{"error": …}`."""
    body = orjson.dumps({"error": refused.message})
    headers = {"content-type": "application/json", "content-length": str(len(body)), **refused.headers}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
