"""Folders and files that are whole or not there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from funnelcast.data.files import new_folder, sha256, write_atomic
from funnelcast.errors import FunnelcastError


def make(path: Path, content: str, *, replace: bool = False) -> None:
    with new_folder(path, replace=replace) as folder:
        (folder / "a").write_text(content)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_folder_appears_when_its_block_ends(tmp_path: Path) -> None:
    with new_folder(tmp_path / "deep" / "table") as folder:
        (folder / "a").write_text("x")
        assert not (tmp_path / "deep" / "table").exists()
    assert (tmp_path / "deep" / "table" / "a").read_text() == "x"
    assert names(tmp_path / "deep") == ["table"]


def test_a_failed_block_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "table"):
        raise ZeroDivisionError
    assert names(tmp_path) == []


def test_a_failed_replacement_leaves_the_old(tmp_path: Path) -> None:
    make(tmp_path / "table", "old")
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "table", replace=True):
        raise ZeroDivisionError
    assert (tmp_path / "table" / "a").read_text() == "old"


def test_replacing(tmp_path: Path) -> None:
    make(tmp_path / "table", "old")
    with pytest.raises(FunnelcastError, match=r"exists already; .*--replace"):
        make(tmp_path / "table", "new")
    assert (tmp_path / "table" / "a").read_text() == "old"
    make(tmp_path / "table", "new", replace=True)
    assert (tmp_path / "table" / "a").read_text() == "new"
    assert names(tmp_path) == ["table"]


def test_what_killed_runs_left_is_removed_and_what_living_ones_write_is_not(tmp_path: Path) -> None:
    stale, living = tmp_path / f".t[1].partial-{dead_pid()}", tmp_path / f".t[1].partial-{os.getppid()}"
    other = tmp_path / ".t[1].partial-notes"
    for folder in (stale, living, other):
        folder.mkdir()
    make(tmp_path / "t[1]", "x")
    assert names(tmp_path) == sorted([living.name, other.name, "t[1]"])


def test_a_folder_that_a_killed_run_was_replacing_comes_back(tmp_path: Path) -> None:
    old = tmp_path / f".table.partial-old-{dead_pid()}"
    old.mkdir()
    (old / "a").write_text("old")
    with pytest.raises(FunnelcastError, match="exists already"):
        make(tmp_path / "table", "new")
    assert (tmp_path / "table" / "a").read_text() == "old"


def test_atomic_files(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomic(path, b"one")
    write_atomic(path, b"")
    assert path.read_bytes() == b"" and names(tmp_path) == ["a"]
    assert sha256(path) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
