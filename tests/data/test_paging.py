"""Advice about pages: it covers the bytes of the rows it is about, and changes nothing that is read."""

import ctypes
import mmap
import os
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from funnelcast.data import loader as module
from funnelcast.data.columns import Columns
from funnelcast.data.loader import Loader
from funnelcast.data.paging import needed
from tests.data.test_loader import columns_of, lists_of


def on_disk(array: NDArray[Any], path: Path) -> NDArray[Any]:
    """`array` mapped from a file that is on the disk itself."""
    path.write_bytes(array.tobytes())
    with path.open("rb") as file:
        os.fdatasync(file.fileno())  # fsync does nothing in tests
    return np.memmap(path, array.dtype, "c", shape=array.shape)


def mapped(columns: Columns, folder: Path) -> Columns:
    """The same columns, all of them in files."""
    arrays = {name: getattr(columns, name) for name in ("ids", "numeric", "labels", "weight")}
    lists = {
        f"{name}.{part}": (name, part)
        for name, ragged in columns.ragged.items()
        for part in ("offsets", "ids", "weights", "index")
        if getattr(ragged, part) is not None
    }
    plain = {name: on_disk(array, folder / name) for name, array in arrays.items()}
    ragged = dict(columns.ragged)
    for file, (name, part) in lists.items():
        array = on_disk(getattr(columns.ragged[name], part), folder / file)
        ragged[name] = replace(ragged[name], **{part: array})
    return replace(columns, **plain, ragged=ragged)


@pytest.mark.parametrize("window", [1 << 22, 100])
@pytest.mark.parametrize("keep", [1.0, 0.4])
def test_rows_from_files_are_those_from_memory(
    window: int, keep: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WINDOW_BLOCK", 10)
    columns, _ = lists_of(333)
    epochs = (
        list(Loader.of(each, 16, seed=1, keep_negatives=keep, window=window).epoch(2))
        for each in (columns, mapped(columns, tmp_path))
    )
    for first, second in zip(*epochs, strict=True):
        assert torch.equal(first.ids, second.ids)
        for name, lists in first.lists.items():
            assert torch.equal(lists.ids, second.lists[name].ids)


def test_no_rows() -> None:
    assert list(Loader.of(columns_of(0), 16, seed=1).epoch(0)) == []


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux about its pages")


@pytest.mark.slow
@on_linux
@pytest.mark.parametrize("file", ["ids", "labels", "own.ids", "shared.index"])
def test_rows_are_read_before_they_are_asked_for(file: str, tmp_path: Path) -> None:
    columns = mapped(lists_of(1 << 17)[0], tmp_path)
    own, shared = columns.ragged["own"], columns.ragged["shared"]
    first, stop = 20_003, 100_001
    array, begin, end = {
        "ids": (columns.ids, first, stop),
        "labels": (columns.labels, 2 * first, 2 * stop),
        "own.ids": (own.ids, int(own.offsets[first]), int(own.offsets[stop])),
        "shared.index": (shared.index, first, stop),
    }[file]
    assert isinstance(array, np.memmap)
    pages = slice(begin * array.itemsize // mmap.PAGESIZE, -(-end * array.itemsize // mmap.PAGESIZE))
    with (tmp_path / file).open("rb") as stored:
        os.posix_fadvise(stored.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if in_memory(array).all():
        pytest.skip("files never leave memory on this system")
    with needed(columns, [(first, stop)]):
        until = time.monotonic() + 10
        while not in_memory(array)[pages].all():
            assert time.monotonic() < until
            time.sleep(0.01)


@on_linux
def test_pages_that_are_done_with_do_not_count_as_used(tmp_path: Path) -> None:
    columns = mapped(columns_of(1 << 20), tmp_path)
    with needed(columns, [(0, 1 << 20)]):
        assert columns.ids.sum() > 0 and referenced(columns.ids) > 0
    assert referenced(columns.ids) == 0


def referenced(array: NDArray[Any]) -> int:
    """kB of a mapped file that Linux takes as in use."""
    regions = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE)
    for region in filter(None, regions):
        first, end = (int(number, 16) for number in region.split(maxsplit=1)[0].split("-"))
        if first <= array.ctypes.data < end:
            return int(region.partition("Referenced:")[2].split()[0])
    raise AssertionError("the file is not mapped")


def in_memory(array: NDArray[Any]) -> NDArray[np.bool_]:
    """Of each page of a mapped file."""
    pages = -(-array.nbytes // mmap.PAGESIZE)
    found = (ctypes.c_ubyte * pages)()
    assert ctypes.CDLL(None).mincore(ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes), found) == 0
    return np.array([page & 1 == 1 for page in found], np.bool_)
