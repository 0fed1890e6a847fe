"""Which files of rows a path stands for, their format, and what the names of their folders say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from funnelcast.data.log.sources import KINDS, check_content, kind_of, require_exists
from funnelcast.errors import InputError

ROW_KINDS = (*KINDS, ".arrow", ".arrows", ".feather", ".ipc")
_FORMATS = {".parquet": "parquet", ".csv": "csv", ".csv.gz": "csv"}
_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class RowFiles:
    """Files of one format, in the order of their rows."""

    path: Path
    format: str
    """parquet, csv or arrow."""
    files: tuple[Path, ...]
    partitions: dict[str, list[str | None]]
    """By column a value per file, from folders named `column=value`."""


def find_row_files(path: Path) -> RowFiles:
    """A file, or all files of rows below a folder by the order of their paths; what begins with `.` or `_`, or has
    another ending, is none. Raises DataError, and InputError for a folder without files or of several formats."""
    require_exists(path)
    files = sorted(_below(path)) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} holds no rows: no file in it ends in {', '.join(ROW_KINDS)}")
    kinds = [kind_of(file, ROW_KINDS) for file in files]
    formats = [_FORMATS.get(kind, "arrow") for kind in kinds]
    for file, kind, own in zip(files, kinds, formats, strict=True):
        check_content(file, kind)
        if own != formats[0]:
            raise InputError(f"{path} holds {files[0].name} and {file.name}; predict the files of one format at a time")
    return RowFiles(path, formats[0], tuple(files), _partitions(path, files))


def _below(folder: Path) -> Iterator[Path]:
    for file in folder.rglob("*"):
        parts = file.relative_to(folder).parts
        hidden = any(part.startswith(".") or (part.startswith("_") and "=" not in part) for part in parts)
        if not hidden and file.name.lower().endswith(ROW_KINDS) and file.is_file():
            yield file


def _partitions(path: Path, files: list[Path]) -> dict[str, list[str | None]]:
    values = [_values(file.relative_to(path)) for file in files]
    for file, own in zip(files, values, strict=True):
        if unlike := own.keys() ^ values[0].keys():
            raise InputError(f"{file} and {files[0]}: only one is in a folder {min(unlike)}=…; move all into such ones")
    return {column: [own[column] for own in values] for column in values[0]}


def _values(file: Path) -> dict[str, str | None]:
    pairs = [folder.name.partition("=") for folder in reversed(file.parents) if "=" in folder.name]
    return {column: None if value == _NULL else unquote(value) for column, _, value in pairs}
