"""Folders that are either whole or not there: written beside their place, then renamed into it."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from funnelcast.errors import FunnelcastError


@contextmanager
def new_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends well, and is deleted when it does not.

    What a killed run left beside `path` is removed. Raises FunnelcastError when `path` exists and `replace` is not set.
    """
    check_free(path, replace=replace)
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f".{path.name}.partial-*"):
        if not _is_alive(int(stale.name.rpartition("-")[2])):
            shutil.rmtree(stale, ignore_errors=True)
    partial = path.parent / f".{path.name}.partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        _sync(partial)
        if path.exists():
            old = path.parent / f".{path.name}.partial-old-{os.getpid()}"
            path.rename(old)
            partial.rename(path)
            shutil.rmtree(old)
        else:
            partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_free(path: Path, *, replace: bool = False) -> None:
    """Raises FunnelcastError when `path` exists and must not be replaced."""
    if path.exists() and not replace:
        raise FunnelcastError(f"{path} exists already; choose another folder, or replace it with --replace")


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file that is never seen half-written."""
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    """Bring every file to the disk before the rename makes the folder visible."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
