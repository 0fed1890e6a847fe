"""What a server is set to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

MIB: Final = 1 << 20


@dataclass(frozen=True)
class LogRows:
    """Which rows are logged, and where."""

    folder: Path
    share: float = 0.01
    """Of requests."""
    seconds: float = 60.0
    """That a row waits at most before it is written."""


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
    log_rows: LogRows | None = None
    """None where no rows are logged."""
    is_shadow: bool = False
    """Whether it scores what another bundle has answered, at a low priority."""

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        said, log = asdict(self), self.log_rows
        paths = {"bundle": str(self.bundle), "deltas": None if self.deltas is None else str(self.deltas)}
        return said | paths | {"log_rows": None if log is None else {**asdict(log), "folder": str(log.folder)}}

    @classmethod
    def from_dict(cls, said: dict[str, Any]) -> Scoring:
        """From what `as_dict` says."""
        deltas, log = said["deltas"], said["log_rows"]
        paths = {"bundle": Path(said["bundle"]), "deltas": None if deltas is None else Path(deltas)}
        log_rows = None if log is None else LogRows(**{**log, "folder": Path(log["folder"])})
        return cls(**{**said, **paths, "log_rows": log_rows})


@dataclass(frozen=True)
class ShadowSettings:
    """A second bundle, and what it scores."""

    bundle: Path
    share: float = 0.1
    """Of requests, in (0, 1]."""


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
    shadow: ShadowSettings | None = None
