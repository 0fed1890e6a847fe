"""What a server is set to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

MIB: Final = 1 << 20


@dataclass(frozen=True)
class Scoring:
    """What a scoring process is set to."""

    bundle: Path
    name: str
    """Of the model, in addresses."""
    deltas: Path | None = None
    """A delta or a folder of them."""
    precision: str = "float32"
    max_rows: int = 20_000
    """Rows of one request."""


@dataclass(frozen=True)
class Limits:
    """What a request may take."""

    body: int = 16 * MIB
    """Bytes, after decompression."""
    queue: int = 64
    """Requests that wait while others are scored."""
    seconds: float = 10.0
    """From the whole request to the beginning of its scoring."""


@dataclass(frozen=True)
class Settings:
    """All of a server."""

    scoring: Scoring
    limits: Limits = Limits()
    processes: int = 1
    """Scoring processes, each with the bundle in its memory."""
    keys: tuple[str, ...] = ()
    """API keys, of which a request needs one; none where anybody may ask."""
    repository: bool = False
    """Whether clients may load and unload the model."""
    log_requests: bool = True
    """Whether each request is a line of the log."""
