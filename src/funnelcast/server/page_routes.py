"""Pages for people: the status and the API. They are whole without a network, and hold no figures themselves."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from funnelcast.server.refused import RefusedError

FOLDER: Final = Path(__file__).parent / "pages"
PAGES: Final = {"/": "status.html", "/docs": "api.html"}
KINDS: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
HEADERS: Final = {
    "content-security-policy": "default-src 'self'; img-src data:; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}
OPEN: Final = (*PAGES, *(f"/pages/{path.name}" for path in FOLDER.iterdir()))
"""Addresses that need no key."""


def routes() -> list[Route]:
    """Of all pages and their parts."""
    return [*(Route(path, _page, methods=["GET"]) for path in PAGES), Route("/pages/{file}", _page, methods=["GET"])]


async def _page(request: Request) -> Response:
    name = request.path_params.get("file") or PAGES[request.url.path]
    path = FOLDER / name
    if path.name not in _names():
        raise RefusedError(404, f"there is no page {name!r}; GET / has the status")
    return Response(_content(path.name), headers={**HEADERS, "content-type": KINDS[path.suffix] + "; charset=utf-8"})


@cache
def _names() -> frozenset[str]:
    return frozenset(path.name for path in FOLDER.iterdir())


@cache
def _content(name: str) -> bytes:
    return (FOLDER / name).read_bytes()
