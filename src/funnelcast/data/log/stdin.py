"""Rows from standard input: an Arrow stream as it comes, other formats by way of a file, as they are read twice or from
their end."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from funnelcast.data.log.typed_files import TypedFile, arrow_stream
from funnelcast.errors import FunnelcastError, InputError

STDIN = Path("-")
NAME = "standard input"
_KINDS = {b"PAR1": ".parquet", b"ARRO": ".arrow", b"\x1f\x8b": ".csv.gz"}


def stdin_stream() -> TypedFile | None:
    """The Arrow stream on standard input, None for another format. Raises DataError, and InputError for a terminal."""
    if sys.stdin.isatty():
        raise InputError("standard input is a terminal; pipe rows into the command, or name a file")
    start = sys.stdin.buffer.peek(1)[:1]  # type: ignore[union-attr]
    return arrow_stream(sys.stdin.buffer, NAME) if start == b"\xff" else None  # which begins no UTF-8 text


@contextmanager
def stdin_file(folder: Path) -> Iterator[Path]:
    """A file in `folder` with what is on standard input, named by its format; errors call it by what it was."""
    spooled = folder / "stdin"
    with spooled.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
    with spooled.open("rb") as file:
        start = file.read(4)
    kind = next((kind for first, kind in _KINDS.items() if start.startswith(first)), ".csv")
    path = spooled.rename(spooled.with_suffix(kind))
    try:
        yield path
    except FunnelcastError as error:
        raise type(error)(str(error).replace(str(path), NAME)) from None
