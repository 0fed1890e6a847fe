"""The files of a table as its manifest lists them: by name, with size and checksum, and where the content is stored.

Shared lists are stored once: where a part has the lists of another part, or a feature the index of another one, its
file is listed all the same, and `stored_as` names the file that has its content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from funnelcast.data.files import sha256
from funnelcast.errors import TableError
from funnelcast.runtime.threads import cores

Files = dict[str, dict[str, Any]]
"""By name, `train/ids.bin`: bytes, sha256, and `stored_as` where the content is another file's."""


def describe(folder: Path, stored_as: dict[str, str], known: Mapping[Path, str]) -> Files:
    """What is to be listed of the files of `folder`; of equal indexes of a part it keeps one.

    `stored_as`: by the name of a file that is not there, the one that has its content; left out if that is not there.
    `known`: the checksums of some.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = {path: path.stat().st_size for path in paths}
    largest_first = sorted(sizes.keys() - known.keys(), key=lambda path: -sizes[path])  # so that threads end together
    with ThreadPoolExecutor(cores()) as pool:
        sums = {**known, **dict(zip(largest_first, pool.map(sha256, largest_first), strict=True))}
    files: Files = {path.relative_to(folder).as_posix(): {"bytes": sizes[path], "sha256": sums[path]} for path in paths}
    for name, other in list(_twin_indexes(files)):
        (folder / name).unlink()
        files[name]["stored_as"] = other
    files |= {name: {**files[other], "stored_as": other} for name, other in stored_as.items() if other in files}
    return dict(sorted(files.items()))


def _twin_indexes(files: Files) -> Iterator[tuple[str, str]]:
    """The index files that equal another one of their part, each with that one."""
    first: dict[tuple[str, str], str] = {}
    for name, file in files.items():
        if name.endswith(".index.bin"):
            other = first.setdefault((name.partition("/")[0], file["sha256"]), name)
            if other != name:
                yield name, other


def path_of(folder: Path, files: Files, name: str) -> Path:
    """Where the content of a listed file is."""
    return folder / str(files[name].get("stored_as", name))


def verify(folder: Path, files: Files, chosen: Callable[[str], bool]) -> None:
    """Raises TableError where a file whose name is chosen is missing or damaged."""
    wanted = {
        (path_of(folder, files, name), file["bytes"], file["sha256"]): None
        for name, file in files.items()
        if chosen(name)
    }
    for path, size, checksum in wanted:
        if not path.is_file() or path.stat().st_size != size or sha256(path) != checksum:
            raise TableError(f"{path} is missing or differs from its checksum; prepare the table again")
