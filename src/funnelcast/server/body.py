"""The body of a request, within limits."""

from __future__ import annotations

import asyncio
import zlib
from typing import Final

from starlette.requests import ClientDisconnect, Request

from funnelcast.server.refused import RefusedError

_WINDOW_BITS: Final = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
SECONDS: Final = 30
"""Within which a body has to come."""


async def read_body(request: Request, limit: int) -> bytes:
    """The body, decompressed. Raises RefusedError for one that is larger than `limit` bytes, too slow, or damaged."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity" and encoding not in _WINDOW_BITS:
        raise RefusedError(415, f"the content-encoding {encoding!r} is not known; take gzip, deflate or none")
    parts, size = list[bytes](), 0
    try:
        async with asyncio.timeout(SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    parts.clear()  # an error's traceback keeps what stands in this frame
                    raise _too_large(limit)
                parts.append(part)
    except TimeoutError:
        raise RefusedError(
            408, f"the body did not come within {SECONDS} s; send it faster", {"connection": "close"}
        ) from None
    except ClientDisconnect:
        raise RefusedError(400, "the connection ended before the body; send it whole") from None
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    return body if encoding == "identity" else await asyncio.to_thread(_decompressed, body, encoding, limit)


def _decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    stream = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        content = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise RefusedError(400, f"the body is no {encoding}: {error}; compress it again or send it as it is") from None
    if len(content) > limit:
        del content, stream  # as above
        raise _too_large(limit)
    if not stream.eof:
        raise RefusedError(400, f"the body ends within its {encoding} stream; send it whole")
    return content


def _too_large(limit: int) -> RefusedError:
    return RefusedError(
        413, f"the body is larger than {limit:,} bytes; send fewer rows in a request", {"connection": "close"}
    )
