"""Folders and files that are whole or not there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from funnelcast.data.files import Checksum, alone_in, new_file, new_folder, sha256, work_folder, write_atomic
from funnelcast.errors import FunnelcastError
from tests.kill import kills


def make(path: Path, content: str, *, replace: bool = False) -> None:
    with new_folder(path, replace=replace) as folder:
        (folder / "a").write_text(content)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_all_is_on_the_disk_before_it_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forced: list[int] = []

    def force(descriptor: int) -> None:
        forced.append(os.fstat(descriptor).st_ino)
        assert not (tmp_path / "table").exists() and not (tmp_path / "file").exists()

    monkeypatch.setattr(os, "fsync", force)
    write_atomic(tmp_path / "file", b"x")
    assert forced == [(tmp_path / "file").stat().st_ino]
    (tmp_path / "file").rename(tmp_path / "other")
    with new_folder(tmp_path / "table") as folder:
        (folder / "a").write_text("x")
        (folder / "deep").mkdir()
        (folder / "deep/b").write_text("x")
    assert set(forced[1:]) == {(tmp_path / "table" / name).stat().st_ino for name in ("a", "deep/b")}


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


def test_the_checksum_of_a_file_that_grows(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch()
    growing = Checksum(path)
    for chunk in (b"", b"one", b"x" * 1_000_000, b""):
        with path.open("ab") as file:
            file.write(chunk)
        assert growing.follow() == sha256(path)


def test_what_a_killed_run_left_of_a_file_is_removed(tmp_path: Path) -> None:
    (tmp_path / f".p[1].csv.partial-{dead_pid()}").write_text("half")
    (tmp_path / f".p[1].csv.partial-work-{dead_pid()}").mkdir()
    with new_file(tmp_path / "p[1].csv") as partial:
        partial.write_text("whole")
        assert names(tmp_path) == [partial.name]
    assert names(tmp_path) == ["p[1].csv"]


def test_a_work_folder_lasts_as_long_as_its_block(tmp_path: Path) -> None:
    stale = tmp_path / f".table.partial-work-{dead_pid()}"
    stale.mkdir()
    with work_folder(tmp_path / "table") as work:
        (work / "a").touch()
        make(tmp_path / "table", "x")
        assert names(tmp_path) == sorted([work.name, "table"]) and names(work) == ["a"]
    assert names(tmp_path) == ["table"]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("old", ["old", None])
def test_a_folder_killed_anywhere_is_the_old_one_or_the_new_one(tmp_path: Path, old: str | None) -> None:
    path, numbers = tmp_path / "table", []

    def before() -> None:
        if path.exists():
            shutil.rmtree(path)
        if old is not None:
            make(path, old)

    for number in kills(before, lambda: make(path, "new", replace=True)):
        assert not path.exists() or (path / "a").read_text() in (old, "new")
        if old is not None:  # even where it was on its way out
            with pytest.raises(FunnelcastError, match="exists already"):
                make(path, "newer")
            assert (path / "a").read_text() in (old, "new")
        make(path, "newer", replace=True)
        assert names(tmp_path) == ["table"] and (path / "a").read_text() == "newer"
        numbers.append(number)
    assert len(numbers) >= (6 if old else 3)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_file_killed_anywhere_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    path, seen = tmp_path / "a", set()
    for _ in kills(lambda: write_atomic(path, b"old"), lambda: write_atomic(path, b"new")):
        seen.add(path.read_bytes())
        write_atomic(path, b"newer")
        assert names(tmp_path) == ["a"] and path.read_bytes() == b"newer"
    assert seen == {b"old", b"new"} and path.read_bytes() == b"new"


HOLD = """
import sys, time
from pathlib import Path
from funnelcast.data.files import alone_in
with alone_in(Path(sys.argv[1])):
    print("in", flush=True)
    time.sleep(60)
"""


def test_one_process_at_a_time_works_in_a_folder(tmp_path: Path) -> None:
    """A killed one holds nothing."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"in\n"
        with pytest.raises(FunnelcastError, match="at work in .*; wait until it ends"), alone_in(tmp_path):
            pytest.fail("both are in")
        other.kill()
    with alone_in(tmp_path), pytest.raises(FunnelcastError, match="another process"), alone_in(tmp_path):
        pytest.fail("both are in")
    with alone_in(tmp_path, wait=True):
        assert not list(tmp_path.iterdir())
