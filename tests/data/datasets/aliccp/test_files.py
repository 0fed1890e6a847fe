"""Plain files, compressed files and archives give the same lines; each mistake has its message."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from funnelcast.data.datasets.aliccp import files
from funnelcast.data.datasets.aliccp.files import COMMON, SKELETON, Source
from funnelcast.errors import DataError

TEXT = b"first\nsecond line\n\nfourth" * 40


def plain(folder: Path) -> Path:
    (folder / "rows.csv").write_bytes(TEXT)
    return folder / "rows.csv"


def gzipped(folder: Path) -> Path:
    (folder / "rows.csv.gz").write_bytes(gzip.compress(TEXT))
    return folder / "rows.csv.gz"


IN_TAR = ("in/common_features_train.csv", "in/sample_skeleton_train.csv")


def tarred(folder: Path, members: tuple[str, ...] = IN_TAR) -> Path:
    with tarfile.open(folder / "rows.tar.gz", "w:gz") as archive:
        for name in members:
            content = TEXT if "skeleton_train" in name else b"other\n"
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return folder / "rows.tar.gz"


def zipped(folder: Path, members: tuple[str, ...] = ("sample_skeleton_test.csv", "sample_skeleton_train.csv")) -> Path:
    with zipfile.ZipFile(folder / "rows.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in members:
            archive.writestr(name, TEXT if "skeleton_train" in name else b"other\n")
    return folder / "rows.zip"


def read(path: Path, block_bytes: int = 1 << 20, kind: str = SKELETON) -> list[bytes]:
    return [block.data.tobytes() for block in Source(path, kind, "train").blocks(block_bytes)]


@pytest.mark.parametrize("make", [plain, gzipped, tarred, zipped])
@pytest.mark.parametrize("block_bytes", [1, 7, 100, 1 << 20])
def test_every_form_gives_the_same_whole_lines(tmp_path: Path, make: Callable[[Path], Path], block_bytes: int) -> None:
    chunks = read(make(tmp_path), block_bytes)
    assert b"".join(chunks) == TEXT
    assert all(chunk.endswith(b"\n") for chunk in chunks[:-1])


@pytest.mark.parametrize("make", [plain, gzipped, tarred, zipped])
def test_progress_ends_at_the_size_of_the_stored_file(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)
    blocks = list(Source(path, SKELETON, "train").blocks(10))
    size = path.stat().st_size
    assert [block.last for block in blocks] == [False] * (len(blocks) - 1) + [True]
    assert blocks[-1].done == size and all(0 < block.done <= block.total == size for block in blocks)


def test_an_archive_holds_the_common_features_too(tmp_path: Path) -> None:
    assert read(tarred(tmp_path), kind=COMMON) == [b"other\n"]


@pytest.mark.parametrize("block_bytes", [1, 100])
def test_a_byte_order_mark_is_skipped(tmp_path: Path, block_bytes: int) -> None:
    (tmp_path / "rows.csv").write_bytes(b"\xef\xbb\xbfone\ntwo\n")
    assert b"".join(read(tmp_path / "rows.csv", block_bytes)) == b"one\ntwo\n"
    (tmp_path / "rows.csv").write_bytes(b"\xef\xbb\xbf")
    assert read(tmp_path / "rows.csv") == [b""]


def written(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def missing(folder: Path) -> Path:
    plain(folder)
    return folder / "row.csv"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (missing, r"row\.csv does not exist; did you mean 'rows\.csv'\?"),
        (lambda f: f / "no" / "rows.csv", "does not exist; the folder .*no does not exist either"),
        (lambda f: f, "is a directory; give the file in it, such as sample_skeleton_train.csv"),
        (lambda f: written(f, "rows.csv", b""), "rows.csv is empty"),
        (lambda f: written(f, "rows.csv.gz", gzip.compress(b"")), "rows.csv.gz is empty"),
        (lambda f: written(f, "rows.csv", gzip.compress(TEXT)), "is gzip-compressed; rename it to rows.csv.gz"),
        (lambda f: zipped(f).rename(f / "rows.csv"), "is a zip archive; rename it to rows.zip"),
        (lambda f: written(f, "rows.csv.gz", TEXT), "is not gzip-compressed, though its name ends in .gz"),
        (lambda f: written(f, "rows.zip", TEXT), "is not a zip archive, though its name ends in .zip"),
        (lambda f: written(f, "r.csv.gz", gzip.compress(TEXT)[:-9]), "r.csv.gz is damaged or cut off .*; fetch it"),
        (lambda f: written(f, "r.tar.gz", tarred(f).read_bytes()[:-30]), "r.tar.gz is damaged or cut off"),
        (lambda f: written(f, "r.zip", zipped(f).read_bytes()[:-30]), "r.zip is damaged or cut off"),
        (lambda f: written(f, "r.tar.gz", gzip.compress(TEXT)), "r.tar.gz is damaged or cut off"),
        (lambda f: tarred(f, ("a.csv",)), "no member sample_skeleton_train.csv, it has a.csv; give the right archive"),
        (lambda f: zipped(f, ()), "no member sample_skeleton_train.csv, it has nothing"),
        (lambda f: zipped(f, ("sample_skeleton_test.csv",)), "no member sample_skeleton_train.csv"),
    ],
)
def test_each_mistake_has_its_message(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(make(tmp_path))


def test_a_file_without_line_ends_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_LONGEST_LINE", 1000)
    with pytest.raises(DataError, match=r"has a line of more than .* is it a text file\?"):
        read(written(tmp_path, "rows.csv", b"x" * 5000), 100)


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = plain(tmp_path)
    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(DataError, match=r"rows.csv cannot be read \(Permission denied\)"):
        Source(path, SKELETON, "train").check()
