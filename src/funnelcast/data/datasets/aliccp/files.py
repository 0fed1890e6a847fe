"""The raw Ali-CCP files, plain, gzip-compressed or in the distributed archives, as blocks of whole lines."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from funnelcast.compiled import compiled
from funnelcast.errors import DataError, did_you_mean

BLOCK_BYTES = 16 << 20
SKELETON, COMMON = "sample_skeleton", "common_features"
_LONGEST_LINE = 64 << 20  # bytes; a file without line ends must not fill the memory
_BOM = b"\xef\xbb\xbf"
_OTHER = {"train": "_test", "test": "_train"}


@dataclass(frozen=True)
class Block:
    """Whole lines of a file, each with its line end, save perhaps the last line of the last block."""

    data: NDArray[np.uint8]
    last: bool
    done: int
    """Bytes of the stored file that were read so far, compressed where it is compressed."""
    total: int


@dataclass(frozen=True)
class Source:
    """One raw file, or the member of an archive that holds it."""

    path: Path
    kind: str
    """SKELETON or COMMON: what the name of an archive's member begins with."""
    part: str
    """train or test."""

    @property
    def shown(self) -> Path:
        """What quarantine calls it: the file, or the member of the archive."""
        return Path(f"{self.kind}_{self.part}.csv") if is_archive(self.path) else self.path

    def check(self) -> None:
        """Raises DataError when the file is missing, empty, or not what its name says."""
        if self.path.is_dir():
            raise DataError(f"{self.path} is a directory; give the file in it, such as {self.kind}_{self.part}.csv")
        if not self.path.is_file():
            raise DataError(f"{self.path} does not exist; {_nearest(self.path)}")
        with _readable(self.path), self.path.open("rb") as file:
            _check_content(self.path, file.read(4))

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
        """The lines in blocks of about `block_bytes`, at least one line each. Raises DataError."""
        self.check()
        total = self.path.stat().st_size
        with _readable(self.path), self.path.open("rb") as raw, self._open(raw) as stream:
            chunks = _whole_lines(stream, block_bytes)
            lines = next(chunks, None)
            if lines is None:
                raise DataError(f"{self.path} is empty; fetch or make it again")
            lines, done = lines[len(_BOM) if lines[: len(_BOM)].tobytes() == _BOM else 0 :], raw.tell()
            for following in chunks:
                yield Block(lines, False, done, total)
                lines, done = following, raw.tell()
            yield Block(lines, True, total, total)

    def _open(self, raw: IO[bytes]) -> IO[bytes] | gzip.GzipFile:
        form = _form(self.path)
        if form == "zip":
            return self._zip_member(raw)
        if form == "tar.gz":
            return self._tar_member(raw)
        return gzip.open(raw) if form == "gz" else raw

    def _zip_member(self, raw: IO[bytes]) -> IO[bytes]:
        archive = zipfile.ZipFile(raw)
        names = archive.namelist()
        for name in filter(self._is_member, names):
            try:
                return archive.open(name)
            except RuntimeError as error:  # encrypted, or an unknown compression
                raise DataError(f"{self.path} cannot be unpacked ({error}); unpack it yourself") from None
        raise self._no_member(names)

    def _tar_member(self, raw: IO[bytes]) -> IO[bytes]:
        names = []
        archive = tarfile.open(fileobj=gzip.open(raw), mode="r:")  # noqa: SIM115  (it only reads `raw`)
        for member in archive:
            names.append(member.name)
            content = archive.extractfile(member) if self._is_member(member.name) else None
            if content is not None:
                return content
        raise self._no_member(names)

    def _is_member(self, name: str) -> bool:
        file = PurePosixPath(name).name
        return file.startswith(self.kind) and file.endswith(".csv") and _OTHER[self.part] not in file

    def _no_member(self, names: list[str]) -> DataError:
        have = ", ".join(names[:8]) or "nothing"
        return DataError(
            f"{self.path} has no member {self.kind}_{self.part}.csv, it has {have}; give the right archive"
        )


def is_archive(path: Path) -> bool:
    """Whether the file, by its name, holds several raw files."""
    return _form(path) in ("tar.gz", "zip")


def _form(path: Path) -> str:
    name = path.name.lower()
    if name.endswith((".tar.gz", ".tgz")):
        return "tar.gz"
    return {".zip": "zip", ".gz": "gz"}.get(path.suffix.lower(), "csv")


def _check_content(path: Path, head: bytes) -> None:
    if not head:
        raise DataError(f"{path} is empty; fetch or make it again")
    content = "gz" if head[:2] == b"\x1f\x8b" else "zip" if head in (b"PK\x03\x04", b"PK\x05\x06") else "csv"
    form = _form(path).removeprefix("tar.")
    if form == content:
        return
    if content == "gz":
        raise DataError(f"{path} is gzip-compressed; rename it to {path.with_suffix('.csv.gz').name}")
    if content == "zip":
        raise DataError(f"{path} is a zip archive; rename it to {path.with_suffix('.zip').name}")
    kind = "gzip-compressed" if form == "gz" else "a zip archive"
    raise DataError(
        f"{path} is not {kind}, though its name ends in {path.suffix}; fetch it again, or rename it to .csv"
    )


def _nearest(path: Path) -> str:
    if not path.parent.is_dir():
        return f"the folder {path.parent} does not exist either"
    near = did_you_mean(path.name, [file.name for file in path.parent.iterdir()])
    return near if near.startswith("did") else "check the path"


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """What the libraries raise over a damaged or unreadable file, as a DataError that names it."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error, tarfile.TarError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is damaged or cut off ({error}); fetch it again") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); mend that and try again") from None


def _whole_lines(stream: Any, block_bytes: int) -> Iterator[NDArray[np.uint8]]:
    """Blocks with room of their own, into which the file is read; only what follows a block's last line is copied."""
    rest = np.empty(0, np.uint8)
    while True:
        block = np.empty(len(rest) + block_bytes, np.uint8)
        block[: len(rest)] = rest
        got = stream.readinto(block[len(rest) :].data)
        if not got:
            break
        block = block[: len(rest) + got]
        end = _after_last_line(block)
        if end:
            yield block[:end]
        elif len(rest) > _LONGEST_LINE:
            raise DataError(f"{stream.name} has a line of more than {_LONGEST_LINE >> 20} MiB; is it a text file?")
        rest = block[end:]
    if len(rest):
        yield rest


@compiled
def _after_last_line(data: NDArray[np.uint8]) -> int:
    at = len(data)
    while at > 0 and data[at - 1] != 10:
        at -= 1
    return at
