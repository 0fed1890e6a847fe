"""Running a server until it is stopped."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn
import uvloop

from funnelcast.errors import FunnelcastError
from funnelcast.server.address import Address
from funnelcast.server.app import Front
from funnelcast.server.logs import AsJson, log
from funnelcast.server.scorers import Scorers
from funnelcast.server.settings import Settings
from funnelcast.server.shadow import Shadow

GRACE = 30
"""Seconds that requests have to end when the server is stopped."""
KEEP_ALIVE = 75
"""Seconds for which a connection without a request stays open: longer than clients and load balancers keep one, as a
request that meets its end is reset."""


def serve(settings: Settings, address: Address) -> None:
    """Serve until SIGTERM or Ctrl-C; SIGHUP loads the bundle anew. Raises FunnelcastError."""
    logging.basicConfig(handlers=[AsJson()], level=logging.WARNING, force=True)
    with address.listener() as listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, address, listener))


class _Server(uvicorn.Server):
    """Whose signals are ours."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None are captured."""
        yield


async def _serve(settings: Settings, address: Address, listener: socket.socket) -> None:
    scorers = Scorers(settings)
    shadow = None if settings.shadow is None else Shadow(settings, settings.shadow, scorers)
    front = Front(settings, scorers, shadow)
    server = _Server(_configured(front, address))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.handle_exit, number, None)
    loop.add_signal_handler(signal.SIGHUP, _reload, scorers, shadow)
    try:
        async with _grpc(front, address) as grpc:
            host, port = listener.getsockname()[:2]
            log("listening", address=f"http{'s' * (address.certificate is not None)}://{host}:{port}", **grpc)
            await _until_stopped(server, listener, _load(scorers, shadow))
    finally:
        if shadow is not None:
            await shadow.close()
        await scorers.close()


async def _load(scorers: Scorers, shadow: Shadow | None) -> None:
    """The shadow first, as requests come as soon as the served bundle is ready. Raises FunnelcastError."""
    if shadow is not None:
        await shadow.start()
    await scorers.replace(low=False, check=None if shadow is None else shadow.check)


@asynccontextmanager
async def _grpc(front: Front, address: Address) -> AsyncIterator[dict[str, str]]:
    """A gRPC server where the address has a port for it, and what the log says of it."""
    if address.grpc_port is None:
        yield {}
        return
    from funnelcast.server.grpc_front import GrpcFront  # its libraries are an extra

    own = GrpcFront(front, address)
    await own.start()
    try:
        yield {"grpc": f"{address.host}:{own.port}"}
    finally:
        await own.stop(GRACE)


def _reload(scorers: Scorers, shadow: Shadow | None) -> None:
    scorers.reload()
    if shadow is not None:
        shadow.reload()


async def _until_stopped(server: uvicorn.Server, listener: socket.socket, load: Coroutine[Any, Any, None]) -> None:
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    loading = asyncio.create_task(load)
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


def _configured(front: Front, address: Address) -> uvicorn.Config:
    more: dict[str, Any] = {}
    if address.client_ca is not None:
        more = {"ssl_ca_certs": str(address.client_ca), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    config = uvicorn.Config(
        front.gate,
        lifespan="off",
        interface="asgi3",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
        timeout_keep_alive=KEEP_ALIVE,
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
