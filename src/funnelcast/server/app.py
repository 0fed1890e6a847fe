"""The addresses of a server: the Open Inference Protocol, and plain rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from funnelcast.server import page_routes
from funnelcast.server.body import read_body
from funnelcast.server.gate import Gate
from funnelcast.server.headers import ARROW, JSON, JSON_BYTES, REQUEST_ID
from funnelcast.server.messages import Message
from funnelcast.server.metrics import Metrics
from funnelcast.server.openapi import openapi_of
from funnelcast.server.refused import RefusedError, busy, require_served
from funnelcast.server.repository import Repository
from funnelcast.server.scorers import Scorers
from funnelcast.server.settings import Settings
from funnelcast.server.shadow import Shadow
from funnelcast.server.status import status_of

Handler = Callable[[Request], Awaitable[Response]]


class Front:
    """What answers requests, and asks the scoring processes."""

    def __init__(self, settings: Settings, scorers: Scorers, shadow: Shadow | None = None) -> None:
        self.settings, self.scorers, self.shadow = settings, scorers, shadow
        self.metrics, self.repository = Metrics(), Repository(settings, scorers)
        handlers = {HTTPException: _http_error, RefusedError: _refused}
        routes: list[Route] = [
            Route("/v2", self.server, methods=["GET"]),
            Route("/v2/health/live", self.live, methods=["GET"]),
            Route("/v2/health/ready", self.ready, methods=["GET"]),
            *self._of_model("", self.model, "GET"),
            *self._of_model("/ready", self.model_ready, "GET"),
            *self._of_model("/infer", self.infer, "POST"),
            *self.repository.routes(),
            Route("/v1/rows", self.rows, methods=["POST"]),
            Route("/v1/status", self.status, methods=["GET"]),
            Route("/v1/shadow", self.shadow_figures, methods=["GET"]),
            Route("/metrics", self.prometheus, methods=["GET"]),
            Route("/openapi.json", self.openapi, methods=["GET"]),
            *page_routes.routes(),
        ]
        app = Starlette(routes=routes, exception_handlers=handlers)  # type: ignore[arg-type]
        self.gate = Gate(app, settings.keys, settings.log_requests, self.metrics.count)

    def _of_model(self, rest: str, handler: Handler, method: str) -> list[Route]:
        """The address of a model, and of a version of it."""
        model = "/v2/models/{model}"
        return [Route(base + rest, handler, methods=[method]) for base in (model, model + "/versions/{version}")]

    def metadata(self) -> dict[str, Any]:
        """What this is."""
        extensions = ["binary_tensor_data", *["model_repository"] * self.settings.repository]
        return {"name": "funnelcast", "version": version("funnelcast"), "extensions": extensions}

    def model_metadata(self, name: str, version: str | None) -> dict[str, Any]:
        """The model's inputs and outputs. Raises RefusedError."""
        found = self.described(name, version)
        said = {"name": found["name"], "versions": [found["version"]], "platform": "funnelcast"}
        return {**said, "inputs": found["inputs"], "outputs": found["outputs"]}

    def described(self, name: str, version: str | None) -> dict[str, Any]:
        """What the scoring processes say of the model. Raises RefusedError for another model or version."""
        own = self.settings.scoring.name
        require_served(own, name)
        found = self.scorers.description
        if found is None:
            raise busy(f"the model {own!r} is not ready; try again")
        require_served(own, name, found["version"], version)
        return found

    async def ask(self, head: dict[str, Any], body: bytes, seconds: float | None = None) -> Message:
        """The answer of a scoring process, which begins within `seconds`. Raises RefusedError."""
        shadow = self.shadow if self.shadow is not None and self.shadow.draws() else None
        answer = await self.scorers.ask(head | {"with_p": shadow is not None}, body, seconds)
        if (status := answer.head["status"]) != 200:
            raise RefusedError(status, answer.head["error"])
        return answer if shadow is None else shadow.take(head, body, answer)

    async def server(self, request: Request) -> Response:
        """What this is."""
        return _json(self.metadata())

    async def live(self, request: Request) -> Response:
        """Whether the server answers."""
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        """Whether the model answers."""
        return _json({"ready": self.scorers.description is not None}, 200 if self.scorers.description else 503)

    async def model(self, request: Request) -> Response:
        """The model's inputs and outputs."""
        return _json(self.model_metadata(*_model(request)))

    async def model_ready(self, request: Request) -> Response:
        """Whether that model answers."""
        return _json({"name": self.described(*_model(request))["name"], "ready": True})

    async def infer(self, request: Request) -> Response:
        """Probabilities of tensors."""
        self.described(*_model(request))
        header = request.headers.get(JSON_BYTES)
        if header is not None and not (header.isascii() and header.isdigit()):
            raise RefusedError(400, f"{JSON_BYTES} is {header!r}; give the number of bytes of the JSON")
        body = await read_body(request, self.settings.limits.body)
        size = None if header is None else int(header)
        return await self._answer({"kind": "infer", "json_bytes": size, "id": request.headers.get(REQUEST_ID)}, body)

    async def rows(self, request: Request) -> Response:
        """Probabilities of plain rows."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()  # curl has its own for JSON
        body = await read_body(request, self.settings.limits.body)
        head = {"kind": "rows", "type": kind if kind == ARROW else JSON, "id": request.headers.get(REQUEST_ID)}
        return await self._answer(head, body)

    async def status(self, request: Request) -> Response:
        """What is served, and how it goes."""
        return _json(await self._status())

    async def shadow_figures(self, request: Request) -> Response:
        """How far the shadow is from what was answered."""
        if self.shadow is None:
            raise RefusedError(404, "no shadow runs here; start the server with --shadow BUNDLE")
        return _json(self.shadow.figures())

    async def prometheus(self, request: Request) -> Response:
        """The same for Prometheus."""
        text = self.metrics.text(await self._status())
        return Response(text, media_type="text/plain; version=0.0.4")

    async def openapi(self, request: Request) -> Response:
        """All addresses, for programs."""
        found = self.scorers.description
        if found is None:
            raise busy("the model is not ready; try again")
        return _json(openapi_of(found, has_keys=bool(self.settings.keys)))

    async def _status(self) -> dict[str, Any]:
        return await status_of(self.scorers, self.metrics, self.shadow)

    async def _answer(self, head: dict[str, Any], body: bytes) -> Response:
        answer = await self.ask(head, body)
        return Response(answer.body, headers=answer.head["headers"])


def _model(request: Request) -> tuple[str, str | None]:
    """Name and version in an address."""
    return request.path_params["model"], request.path_params.get("version")


def _json(said: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(said), status, media_type="application/json")


async def _http_error(request: Request, error: HTTPException) -> Response:
    """An address or a method that is not known."""
    fixes = {404: "GET /v2 says what is served", 405: f"allowed: {(error.headers or {}).get('Allow', '')}"}
    fix = fixes.get(error.status_code, "")
    message = f"{request.method} {request.url.path}: {error.detail.lower()}" + (f"; {fix}" if fix else "")
    response = _json({"error": message}, error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _refused(request: Request, refused: RefusedError) -> Response:
    response = _json({"error": refused.message}, refused.status)
    response.headers.update(refused.headers)
    return response
