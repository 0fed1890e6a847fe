"""The Open Inference Protocol over gRPC, by the same front as over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
from grpc import aio

from funnelcast.errors import FunnelcastError
from funnelcast.server.address import Address
from funnelcast.server.app import Front
from funnelcast.server.gate import MOST
from funnelcast.server.grpc_messages import message, value_of
from funnelcast.server.headers import GRPC
from funnelcast.server.refused import RefusedError

Handler = Callable[[Any, Any], Awaitable[Any]]
"""From a call's message and its context to the answer's fields; of inference from bytes to bytes."""
_CODES: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""By status of HTTP; others are INTERNAL."""
_MORE_BYTES: Final = 1 << 16
"""Of a message around the values whose bytes are limited."""


class GrpcFront:
    """A gRPC server in the event loop of the front."""

    def __init__(self, front: Front, address: Address) -> None:
        """Bind the port. Raises FunnelcastError."""
        self._front = front
        limit = front.settings.limits.body + _MORE_BYTES
        options = [
            ("grpc.max_receive_message_length", limit),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # a second server on one port is a mistake
        ]
        self._server = aio.server(options=options, maximum_concurrent_rpcs=MOST)
        self._server.add_generic_rpc_handlers([_service(self._calls(), self._infer, self._guarded)])
        self.port = self._bind(address)

    def _calls(self) -> dict[str, Handler]:
        return {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._metadata,
            "ModelMetadata": self._model_metadata,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }

    def _bind(self, address: Address) -> int:
        host = f"[{address.host}]" if ":" in address.host else address.host
        where = f"{host}:{address.grpc_port}"
        try:
            if address.certificate is None:
                return int(self._server.add_insecure_port(where))
            return int(self._server.add_secure_port(where, _credentials(address)))
        except RuntimeError:
            raise FunnelcastError(
                f"cannot listen for gRPC on {where}; choose another --host or --grpc-port"
                + (", and see that the certificate fits its key" if address.certificate else "")
            ) from None

    async def start(self) -> None:
        """Answer calls from now on."""
        await self._server.start()

    async def stop(self, seconds: float) -> None:
        """Take no more calls; those under way have `seconds` to end."""
        await self._server.stop(seconds)

    def _guarded(self, name: str, handler: Handler) -> Handler:
        """The handler behind the gate."""
        gate, path = self._front.gate, GRPC + name

        async def answer(request: Any, context: Any) -> Any:
            started, status = gate.begin(), 500
            try:
                gate.check(path, {key.encode(): _bytes(value) for key, value in context.invocation_metadata() or ()})
                found = await handler(request, context)
                status = 200
                return found
            except RefusedError as refused:
                status = refused.status
                code = _CODES.get(status, grpc.StatusCode.INTERNAL)
                await context.abort(code, refused.message, tuple(refused.headers.items()))
            finally:
                gate.end(started, "gRPC", path, status)

        return answer

    async def _infer(self, body: bytes, context: Any) -> bytes:
        """The scoring process reads and writes the messages."""
        self._front.described(self._front.settings.scoring.name, None)
        head, left = {"kind": "grpc"}, context.time_remaining()
        return (await self._front.ask(head, body, left)).body

    async def _live(self, request: Any, context: Any) -> dict[str, Any]:
        return {"live": True}

    async def _ready(self, request: Any, context: Any) -> dict[str, Any]:
        return {"ready": self._front.scorers.description is not None}

    async def _model_ready(self, request: Any, context: Any) -> dict[str, Any]:
        try:
            self._front.described(request.name, request.version)
        except RefusedError as refused:
            if refused.status != 503:
                raise
            return {"ready": False}
        return {"ready": True}

    async def _metadata(self, request: Any, context: Any) -> dict[str, Any]:
        return self._front.metadata()

    async def _model_metadata(self, request: Any, context: Any) -> dict[str, Any]:
        return self._front.model_metadata(request.name, request.version)

    async def _index(self, request: Any, context: Any) -> dict[str, Any]:
        return {"models": self._front.repository.index(request.ready)}

    async def _load(self, request: Any, context: Any) -> dict[str, Any]:
        await self._front.repository.load(request.model_name, _parameters(request))
        return {}

    async def _unload(self, request: Any, context: Any) -> dict[str, Any]:
        await self._front.repository.unload(request.model_name, _parameters(request))
        return {}


def _service(calls: dict[str, Handler], infer: Handler, guarded: Callable[[str, Handler], Handler]) -> Any:
    handlers = {"ModelInfer": grpc.unary_unary_rpc_method_handler(guarded("ModelInfer", infer))}
    for name, handler in calls.items():
        request, answer = message(f"{name}Request"), message(f"{name}Response")
        handlers[name] = grpc.unary_unary_rpc_method_handler(
            guarded(name, handler),
            request_deserializer=request.FromString,
            response_serializer=lambda fields, answer=answer: answer(**fields).SerializeToString(),
        )
    return grpc.method_handlers_generic_handler(GRPC.strip("/"), handlers)


def _credentials(address: Address) -> grpc.ServerCredentials:
    paths = (address.key, address.certificate, address.client_ca)
    key, certificate, authorities = (None if path is None else path.read_bytes() for path in paths)
    return grpc.ssl_server_credentials([(key, certificate)], authorities, authorities is not None)


def _parameters(request: Any) -> dict[str, Any]:
    return {name: value_of(value) for name, value in request.parameters.items()}


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
