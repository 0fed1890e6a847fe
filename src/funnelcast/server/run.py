"""Running a server until it is stopped."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from funnelcast.errors import FunnelcastError
from funnelcast.server.app import Front
from funnelcast.server.logs import AsJson, log
from funnelcast.server.scorers import Scorers
from funnelcast.server.settings import Settings

GRACE = 30
"""Seconds that requests have to end when the server is stopped."""


@dataclass(frozen=True)
class Address:
    """Where a server listens, and by what certificate."""

    host: str = "127.0.0.1"
    port: int = 8080
    """0 for any that is free."""
    certificate: Path | None = None
    """With its chain; requests are encrypted then."""
    key: Path | None = None
    """Of the certificate."""
    client_ca: Path | None = None
    """Of which a client needs a certificate."""


def serve(settings: Settings, address: Address = Address()) -> None:
    """Serve until SIGTERM or Ctrl-C; SIGHUP loads the bundle anew. Raises FunnelcastError."""
    logging.basicConfig(handlers=[AsJson()], level=logging.WARNING, force=True)
    with _listening(address) as listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, address, listener))


def _listening(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family, backlog=2048)
    except OSError as error:
        raise FunnelcastError(
            f"cannot listen on {address.host}:{address.port} ({error.strerror}); choose another --host or --port"
        ) from None


class _Server(uvicorn.Server):
    """Whose signals are ours."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None are captured."""
        yield


async def _serve(settings: Settings, address: Address, listener: socket.socket) -> None:
    scorers = Scorers(settings)
    server = _Server(_configured(Front(settings, scorers), address))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.handle_exit, number, None)
    loop.add_signal_handler(signal.SIGHUP, lambda: scorers.reload())
    host, port = listener.getsockname()[:2]
    log("listening", address=f"http{'s' * (address.certificate is not None)}://{host}:{port}")
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    loading = asyncio.create_task(scorers.replace(low=False))
    try:
        await asyncio.wait({serving, loading}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()
        else:
            loading.cancel()
    finally:
        if loading.done() and (loading.cancelled() or loading.exception() is not None):
            server.should_exit = True
        await serving
        await scorers.close()


def _configured(front: Front, address: Address) -> uvicorn.Config:
    more: dict[str, Any] = {}
    if address.client_ca is not None:
        more = {"ssl_ca_certs": str(address.client_ca), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    config = uvicorn.Config(
        front.app,
        lifespan="off",
        interface="asgi3",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
        ssl_certfile=address.certificate,
        ssl_keyfile=address.key,
        **more,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise FunnelcastError(
            f"the certificate cannot be read ({error}); give --certificate, --key and --client-ca files in PEM format"
        ) from None
    return config
