"""Folders and files that are either whole or not there: written beside their place, then renamed into it."""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from funnelcast.errors import FunnelcastError


@contextmanager
def new_folder(path: Path, *, replace: bool = False, mark: str = "") -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends well, and is deleted when it does not.

    What a killed run left beside `path` is removed. Raises FunnelcastError when `path` exists and `replace` is not set,
    or holds anything but no file `mark`, so that nobody loses a folder to a slip of the pen.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_stale(path)
    check_free(path, replace=replace, mark=mark)
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


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A temporary file that becomes `path` when the block ends well, and is deleted when it does not.

    What a killed run left beside `path` is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_stale(path)
    partial = path.parent / f".{path.name}.partial-{os.getpid()}"
    try:
        yield partial
        sync_file(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def alone_in(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Of the blocks that ask for this folder, in any process, one runs at a time; a killed process holds nothing.

    Raises FunnelcastError where another one runs and this one shall not `wait`. Where the file system has no locks, or
    the operating system none of this kind, all run.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(handle)
        raise FunnelcastError(
            f"another process is at work in {folder}; wait until it ends, or choose another folder with --out"
        ) from None
    except OSError:
        pass
    try:
        yield
    finally:
        os.close(handle)


@contextmanager
def work_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to make `path` in; of a killed run it is removed by the next one that makes `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.parent / f".{path.name}.partial-work-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clear_stale(path: Path) -> None:
    """Remove what killed runs left beside `path`; put back what one of them was about to replace."""
    for stale in path.parent.glob(f".{glob.escape(path.name)}.partial-*"):
        kind, _, pid = stale.name.removeprefix(f".{path.name}.partial-").rpartition("-")
        is_own = pid == str(os.getpid()) and kind != "work"
        if not pid.isdigit() or (not is_own and _is_alive(int(pid))):
            continue
        if kind == "old" and not path.exists():
            stale.rename(path)
        elif stale.is_dir():
            shutil.rmtree(stale, ignore_errors=True)
        else:
            stale.unlink(missing_ok=True)


def check_free(path: Path, *, replace: bool = False, mark: str = "") -> None:
    """Raises FunnelcastError when `path` exists and must not be replaced."""
    if path.exists() and not replace:
        raise FunnelcastError(f"{path} exists already; choose another place, or replace it with --replace")
    if mark:
        require_folder(path)
    if mark and path.exists() and any(path.iterdir()) and not (path / mark).is_file():
        raise FunnelcastError(f"{path} is not empty and has no {mark}, so it is not replaced; choose another folder")


def require_folder(path: Path) -> None:
    """Raises FunnelcastError when `path` is a file, so that nothing can be written into it."""
    if path.exists() and not path.is_dir():
        raise FunnelcastError(f"{path} is a file; choose a folder")


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file that is never seen half-written."""
    with new_file(path) as partial:
        partial.write_bytes(content)


def sha256(path: Path) -> str:
    """Of a file's content, in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Checksum:
    """SHA-256 of a file that grows at its end, of which each byte is read once."""

    def __init__(self, path: Path) -> None:
        self._path, self._sum, self._done = path, hashlib.sha256(), 0

    def follow(self) -> str:
        """Take in what has come since the last time; hex digits of all so far."""
        with self._path.open("rb") as file:
            file.seek(self._done)
            hashlib.file_digest(file, lambda: self._sum)
            self._done = file.tell()
        return self._sum.hexdigest()


def _sync(folder: Path) -> None:
    """Bring every file to the disk before the rename makes the folder visible."""
    for path in folder.rglob("*"):
        if path.is_file():
            sync_file(path)


def sync_file(path: Path) -> None:
    """Bring what was written to the disk."""
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
