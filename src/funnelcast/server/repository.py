"""Clients that load and unload the model: the protocol's extension `model_repository`."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from funnelcast.errors import FunnelcastError
from funnelcast.server.body import read_body
from funnelcast.server.refused import RefusedError, require_served
from funnelcast.server.scorers import Scorers
from funnelcast.server.settings import Settings

IGNORED = {"unload_dependents"}
"""Parameters without a meaning for one model."""


class Repository:
    """The one model of a server, which clients may load and unload where the settings say so."""

    def __init__(self, settings: Settings, scorers: Scorers) -> None:
        self._settings, self._scorers = settings, scorers
        self._reason = "it has not been loaded yet"

    def routes(self) -> list[Route]:
        """The addresses."""
        model = "/v2/repository/models/{model}"
        named = {"/v2/repository/index": self._index, f"{model}/load": self._load, f"{model}/unload": self._unload}
        return [Route(path, handler, methods=["POST"]) for path, handler in named.items()]

    def index(self, ready: bool = False) -> list[dict[str, str]]:
        """Name, version, state and reason of the model; `ready`: only where it answers. Raises RefusedError."""
        self._require_allowed()
        found, name = self._scorers.description, self._settings.scoring.name
        if found is not None:
            return [{"name": name, "version": found["version"], "state": "READY", "reason": ""}]
        return [] if ready else [{"name": name, "version": "", "state": "UNAVAILABLE", "reason": self._reason}]

    async def load(self, name: str, parameters: Any = None) -> None:
        """Serve what the bundle's folder has now. Raises RefusedError, and goes on as before, where that fails."""
        self._require(name, parameters)
        try:
            await self._apart(self._scorers.replace(low=self._scorers.description is not None))
        except FunnelcastError as error:
            self._reason = str(error)
            raise RefusedError(400, f"{name!r} was not loaded, and nothing changed: {error}") from None

    async def unload(self, name: str, parameters: Any = None) -> None:
        """End the model when it has answered what it was asked. Raises RefusedError."""
        self._require(name, parameters)
        self._reason = "a client has unloaded it"
        await self._apart(self._scorers.unload())

    async def _apart(self, work: Any) -> None:
        """It ends as a whole, also when the client has gone."""
        await asyncio.shield(self._scorers.in_background(work))

    def _require(self, name: str, parameters: Any) -> None:
        self._require_allowed()
        require_served(self._settings.scoring.name, name)
        more = sorted(set(parameters or ()) - IGNORED)
        if more:
            raise RefusedError(400, f"the parameter {more[0]!r} is not known; what is loaded is what the folder has")

    def _require_allowed(self) -> None:
        if not self._settings.repository:
            raise RefusedError(403, "clients may not load and unload here; start the server with --repository")

    async def _index(self, request: Request) -> Response:
        said = await self._said(request)
        return Response(orjson.dumps(self.index(said.get("ready") is True)), media_type="application/json")

    async def _load(self, request: Request) -> Response:
        await self.load(request.path_params["model"], (await self._said(request)).get("parameters"))
        return Response(b"{}", media_type="application/json")

    async def _unload(self, request: Request) -> Response:
        await self.unload(request.path_params["model"], (await self._said(request)).get("parameters"))
        return Response(b"{}", media_type="application/json")

    async def _said(self, request: Request) -> dict[str, Any]:
        """The body, which may be empty. Raises RefusedError."""
        self._require_allowed()
        body = await read_body(request, self._settings.limits.body)
        try:
            said = orjson.loads(body or b"{}")
        except orjson.JSONDecodeError as error:
            raise RefusedError(400, f"the body is no JSON: {error}; leave it out, or give an object") from None
        if not isinstance(said, dict) or not isinstance(said.get("parameters") or {}, dict):
            raise RefusedError(400, 'the body and its "parameters" are JSON objects, or left out; give them so')
        return said
