"""Requests that are answered with an error."""

from __future__ import annotations

from collections.abc import Mapping


class RefusedError(Exception):
    """A request that is not served: an HTTP status, what is wrong with the fix, and headers such as Retry-After."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})


def busy(message: str, seconds: int = 1) -> RefusedError:
    """503, with the time after which to try again."""
    return RefusedError(503, message, {"retry-after": str(seconds)})


def require_served(own: str, name: str, version: str = "", wanted: str | None = None) -> None:
    """Raises RefusedError for another model than `own`, and for another version of it than the one there is."""
    if name != own:
        raise RefusedError(404, f"there is no model {name!r}; this server has {own!r}")
    if wanted not in (None, "", version):
        raise RefusedError(404, f"the model {own!r} has no version {wanted!r}; it has {version!r}")
