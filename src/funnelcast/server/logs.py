"""The server's log: a JSON object a line on stderr, without values of requests."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import orjson


def log(event: str, **more: Any) -> None:
    """Write one line."""
    said = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **more}
    sys.stderr.write(orjson.dumps(said).decode() + "\n")


class AsJson(logging.Handler):
    """Warnings and errors of libraries as lines of the log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        more = {"trace": self.formatException(record)} if record.exc_info else {}
        log(record.levelname.lower(), source=record.name, message=record.getMessage(), **more)

    def formatException(self, record: logging.LogRecord) -> str:  # noqa: N802
        """The traceback."""
        return logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
