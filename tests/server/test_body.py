"""Bodies beyond the limit."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc

import pytest
from starlette.requests import Request

from funnelcast.server.body import read_body
from funnelcast.server.refused import RefusedError

LIMIT = 16 << 20


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_nothing_of_a_refused_body_stays_with_its_error(encoding: str) -> None:
    """An error waits for the garbage collector, and its traceback with it."""
    tracemalloc.start()
    try:
        errors = [asyncio.run(_refused(encoding)) for _ in range(3)]
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [error.status for error in errors] == [413] * 3
    assert kept < 1 << 20


async def _refused(encoding: str) -> RefusedError:
    async def receive() -> dict[str, object]:
        if encoding == "identity":
            return {"type": "http.request", "body": bytes(1 << 16), "more_body": True}
        return {"type": "http.request", "body": gzip.compress(bytes(2 * LIMIT))}

    scope = {"type": "http", "headers": [(b"content-encoding", encoding.encode())]}
    with pytest.raises(RefusedError) as found:
        await read_body(Request(scope, receive), LIMIT)
    return found.value
