"""The prepared table: what is written is read, damage is found, parts are opened one by one."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funnelcast.data import table_writer
from funnelcast.data.columns import Columns, Ragged
from funnelcast.data.encoder import Encoder
from funnelcast.data.files import new_folder
from funnelcast.data.in_order import in_order
from funnelcast.data.numeric import Standard
from funnelcast.data.table import Table
from funnelcast.data.table_writer import TableWriter
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.errors import TableError
from funnelcast.schema.dataset import Schema

SCHEMA = Schema.from_dict(
    {
        "funnel": "click; buy after click",
        "features": {"a": {}, "b": {}, "x": "numeric", "tags": {"kind": "multi", "weights": "w"}, "seq": "sequence"},
        "weight": "weight",
        "keep": ["t"],
    }
)
ENCODER = Encoder(
    SCHEMA,
    {name: Vocabulary(pa.array([1, 2, 3])) for name in ("a", "b", "tags", "seq")},
    {"x": Standard(mean=0, std=1)},
)
LISTS = st.lists(st.integers(0, 3), max_size=3)


def rows(lists: list[list[int]]) -> Columns:
    """One row per list, every column made from it."""
    n = len(lists)
    offsets = np.cumsum([0, *map(len, lists)], dtype=np.int64)
    ids = np.array([i for row in lists for i in row], np.int32)
    lengths = np.diff(offsets).astype(np.int32)
    return Columns(
        np.stack([lengths, lengths + 1], 1),
        (lengths / 2).astype(np.float32)[:, None],
        {"tags": Ragged(offsets, ids, ids.astype(np.float32)), "seq": Ragged(offsets, ids)},
        np.full((n, 2), 1, np.uint8),
        np.ones(n, np.float32),
    )


def write(path: Path, blocks: list[list[list[int]]], part: str = "train") -> Table:
    with new_folder(path, replace=True) as folder, TableWriter(folder) as writer:
        for block in blocks:
            writer.part(part).append(rows(block), pa.table({"t": pa.array(range(len(block)), pa.int64())}))
        writer.finish(ENCODER, {"rows read": 3})
    return Table.open(path)


def same(found: Columns, expected: Columns) -> bool:
    pairs = [(found.ids, expected.ids), (found.numeric, expected.numeric)]
    pairs += [(found.labels, expected.labels), (found.weight, expected.weight)]  # type: ignore[list-item]
    for name, lists in expected.ragged.items():
        other = found.ragged[name]
        pairs += [(other.offsets, lists.offsets), (other.ids, lists.ids), (other.weights, lists.weights)]  # type: ignore[list-item]
    return all((a is None and b is None) or (a.dtype == b.dtype and np.array_equal(a, b)) for a, b in pairs)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(LISTS, max_size=4), min_size=1, max_size=3).filter(any))
def test_what_is_written_in_blocks_is_read_as_one(blocks: list[list[list[int]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = write(Path(folder) / "table", blocks)
        whole = [row for block in blocks for row in block]
        assert table.rows("train") == len(whole)
        assert same(table.part("train"), rows(whole))
        assert table.side("train").num_rows == len(whole)


def test_the_side_of_rows_may_come_while_others_are_appended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By two threads that store what they have after each block: the same table, to the byte."""
    monkeypatch.setattr(table_writer, "AT_A_TIME", 1)
    blocks = [[[n % 4] for n in range(start, start + 40)] for start in range(30)]
    expected = write(tmp_path / "together", blocks)
    with new_folder(tmp_path / "apart") as folder, TableWriter(folder) as writer:
        part = writer.part("train")

        def append_side(block: list[list[int]]) -> None:
            part.append_side(pa.table({"t": pa.array(range(len(block)), pa.int64())}))

        def append(block: list[list[int]]) -> list[list[int]]:
            part.append(rows(block))
            return block

        in_order(2, blocks, list, append, append_side)
        writer.finish(ENCODER, {"rows read": 3})
    assert Table.open(tmp_path / "apart").manifest == expected.manifest


def test_the_manifest_tells_schema_protocol_and_counts(tmp_path: Path) -> None:
    table = write(tmp_path / "table", [[[1]]])
    assert table.schema == SCHEMA
    columns = [file["sha256"] for name, file in table.manifest["files"].items() if name.endswith(".bin")]
    assert len(columns) == 9 and len(SCHEMA.fingerprint(columns)) == 12
    assert table.protocol == {"name": "log", "fingerprint": SCHEMA.fingerprint(columns)}
    assert table.manifest["counts"] == {"rows read": 3}
    assert table.manifest["files"]["train/ids.bin"]["bytes"] == 8


def test_the_fingerprint_is_of_the_rows_too(tmp_path: Path) -> None:
    def fingerprint(name: str, *lists: list[int]) -> str:
        return write(tmp_path / name, [[each] for each in lists]).protocol["fingerprint"]

    assert fingerprint("a", [1], [2]) == fingerprint("b", [1], [2]) != fingerprint("c", [1], [3])


@pytest.mark.parametrize("weighted", [True, False])
def test_the_rates_of_labels_are_those_of_weighted_rows(tmp_path: Path, weighted: bool) -> None:
    """A row of weight 5 is five rows of weight 1; an unobserved label is none. Written in two blocks."""
    schema = SCHEMA if weighted else Schema.from_dict(SCHEMA.model_dump() | {"weight": None})
    labels = np.array([[1, 1], [0, 0], [1, 255], [0, 255]], np.uint8)
    weight = np.array([5, 1, 0.5, 2], np.float32) if weighted else None
    columns = replace(rows([[1], [2], [], [3]]), labels=labels, weight=weight)
    with new_folder(tmp_path / "table") as folder, TableWriter(folder) as writer:
        for block in ([0, 1], [2, 3]):
            writer.part("train").append(columns.take(np.array(block)))
        writer.finish(replace(ENCODER, schema=schema), {})
    table = Table.open(tmp_path / "table")
    assert table.label_rates("train") == ([5.5 / 8.5, 5 / 6] if weighted else [0.5, 0.5])
    counts = {"observed": 2, "reached": 1} | ({"observed_weight": 6.0, "reached_weight": 5.0} if weighted else {})
    assert table.manifest["labels"]["train"]["buy"] == counts


def test_a_part_does_not_change_when_its_columns_are_written_to(tmp_path: Path) -> None:
    table = write(tmp_path / "table", [[[1], [2]]])
    table.part("train").ids[:] = 9
    assert same(table.part("train"), rows([[1], [2]]))


def lists(*rows: list[int]) -> Ragged:
    """Each id is its weight."""
    ids = np.array([i for row in rows for i in row], np.int32)
    return Ragged(np.cumsum([0, *map(len, rows)], dtype=np.int64), ids, ids.astype(np.float32))


def write_shared(
    path: Path, indexes: dict[str, list[int]], *, seq: list[int] | None = None, ends: bool = False
) -> Table:
    """A table whose parts share lists of `tags`, which are written in between, and of `seq`."""
    empty = Ragged(np.zeros(1, np.int64), np.empty(0, np.int32))
    with new_folder(path, replace=True) as folder, TableWriter(folder) as writer:
        assert writer.share(list(indexes), "tags", lists([1, 2], [])) == 0
        writer.share(list(indexes), "seq", replace(lists([3], [1], []), weights=None))
        for part, index in indexes.items():
            of_seq = index if seq is None or part != "train" else seq
            ragged = {
                name: replace(empty, index=np.array(which, np.int32))
                for name, which in (("tags", index), ("seq", of_seq))
            }
            writer.part(part).append(replace(rows([[0]] * len(index)), ragged=ragged))
        assert writer.share(list(indexes), "tags", lists([3])) == 2
        if ends:
            writer.end([*indexes, "none"])
            writer.part("test").append(rows([[1]]))
        writer.finish(ENCODER, {})
    return Table.open(path)


def test_parts_share_lists_that_are_stored_once(tmp_path: Path) -> None:
    table = write_shared(tmp_path / "table", {"train": [1, 0, 2, 0], "dev": [2, 2]})
    for part, expected in (("train", [[], [1, 2], [3], [1, 2]]), ("dev", [[3], [3]])):
        tags = table.part(part).ragged["tags"]
        assert len(tags) == len(expected) and tags.offsets.tolist() == [0, 2, 2, 3]
        assert same(
            replace(rows([]), ragged={"tags": tags.take(np.arange(len(tags)))}),
            replace(rows([]), ragged={"tags": lists(*expected)}),
        )
    seq = table.part("train").ragged["seq"]
    assert seq.weights is None and seq.index is not None and seq.index.tolist() == [1, 0, 2, 0]
    stored = sorted(path.name for path in (table.folder / "dev").iterdir() if path.name[:3] in ("tag", "seq"))
    assert stored == ["seq.index.bin"]
    files = table.manifest["files"]
    assert files["dev/tags.ids.bin"]["stored_as"] == "train/tags.ids.bin"
    assert files["dev/tags.index.bin"]["stored_as"] == "dev/seq.index.bin"


def test_parts_that_end_before_others_are_the_same(tmp_path: Path) -> None:
    first, second = (
        write_shared(tmp_path / f"{ends}", {"train": [1, 0], "dev": [2, 2]}, ends=ends) for ends in (False, True)
    )
    files = {name: file for name, file in second.manifest["files"].items() if not name.startswith("test/")}
    assert files == first.manifest["files"] and len(second.manifest["files"]) > len(files)
    assert all(len(second.part(name)) for name in ("train", "dev", "test"))


def test_where_a_part_that_ends_cannot_be_written_that_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sync(descriptor: int) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    with TableWriter(tmp_path) as writer:
        writer.part("train").append(rows([[1]]))
        monkeypatch.setattr(os, "fsync", sync)
        writer.end(["train"])
        with pytest.raises(OSError, match="the disk is broken"):
            writer.finish(ENCODER, {})
    assert not (tmp_path / "manifest.json").exists()


def test_features_with_different_indexes_have_their_own(tmp_path: Path) -> None:
    """And parts do, though theirs be equal, so that no part needs the rows of another."""
    table = write_shared(tmp_path / "table", {"train": [1, 0], "dev": [1, 0]}, seq=[0, 0])
    indexes = {name: ragged.index for name, ragged in table.part("train").ragged.items()}
    assert {name: i.tolist() for name, i in indexes.items() if i is not None} == {"tags": [1, 0], "seq": [0, 0]}
    files = {name: file.get("stored_as") for name, file in table.manifest["files"].items() if "index" in name}
    stored = {"train/seq.index.bin": None, "train/tags.index.bin": None}
    assert files == stored | {"dev/seq.index.bin": None, "dev/tags.index.bin": "dev/seq.index.bin"}


def test_a_part_that_has_no_rows_is_not_listed(tmp_path: Path) -> None:
    with new_folder(tmp_path / "table") as folder, TableWriter(folder) as writer:
        writer.share(["train", "dev"], "tags", lists([1]))
        writer.finish(ENCODER, {})
    assert not [name for name in Table.open(tmp_path / "table").manifest["files"] if name.startswith("dev")]


def test_the_fingerprint_is_of_shared_lists_too(tmp_path: Path) -> None:
    """Of which rows have them, by each feature, though equal indexes are stored once."""
    cases = [
        ([1, 0], [1], None),
        ([1, 0], [0], None),
        ([1, 0], [1], [0, 1]),
        ([0, 1], [1], [1, 0]),
        ([1, 0], [1], [1, 0]),
    ]
    made = [
        write_shared(tmp_path / "table", {"train": train, "dev": dev}, seq=seq).protocol["fingerprint"]
        for train, dev, seq in cases
    ]
    assert len(set(made)) == 4 and made[0] == made[4]


@pytest.mark.parametrize("name", ["train/tags.ids.bin", "train/tags.offsets.bin", "dev/seq.index.bin"])
def test_damage_of_shared_lists_is_found_by_every_part(tmp_path: Path, name: str) -> None:
    table = write_shared(tmp_path / "table", {"train": [1, 0], "dev": [2, 2]})
    content = bytearray((table.folder / name).read_bytes())
    content[0] ^= 1
    (table.folder / name).write_bytes(bytes(content))
    with pytest.raises(TableError, match=f"{name} is missing or differs from its checksum"):
        table.part("dev")


def test_lists_of_a_part_without_rows_can_be_shared(tmp_path: Path) -> None:
    table = write_shared(tmp_path / "table", {"train": [], "dev": [0]})
    assert table.rows("train") == 0 and table.part("dev").ragged["tags"].take(np.array([0])).ids.tolist() == [1, 2]


def test_parts_that_are_not_there(tmp_path: Path) -> None:
    table = write(tmp_path / "table", [[[1]]])
    assert table.rows("test") == 0
    with pytest.raises(TableError, match=r"has no test rows \(it has train\)"):
        table.part("test")
    with pytest.raises(TableError, match="'tset' is no part of a table; did you mean 'test'?"):
        table.side("tset")


def test_the_files_of_a_part_are_not_touched_before_it_is_asked_for(tmp_path: Path) -> None:
    with new_folder(tmp_path / "table") as folder, TableWriter(folder) as writer:
        for part in ("train", "test"):
            writer.part(part).append(rows([[1]]))
        writer.finish(ENCODER, {})
    for path in (tmp_path / "table" / "test").iterdir():
        path.unlink()
    table = Table.open(tmp_path / "table")
    assert len(table.part("train")) == 1
    with pytest.raises(TableError, match=r"test.* is missing or differs"):
        table.part("test")


@pytest.mark.parametrize("name", ["train/ids.bin", "train/seq.offsets.bin", "encoder.json", "vocabularies/0.parquet"])
def test_damage_is_found(tmp_path: Path, name: str) -> None:
    write(tmp_path / "table", [[[1], [2]]])
    path = tmp_path / "table" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(TableError, match=f"{name} is missing or differs from its checksum"):
        Table.open(tmp_path / "table").part("train")


def test_checksums_that_are_taken_meanwhile_are_those_of_the_whole_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = [[[i] * (i % 5)] * i for i in range(1, 40)]
    at_once = write(tmp_path / "at-once", blocks)
    monkeypatch.setattr(table_writer, "AT_A_TIME", 1000)
    meanwhile = write(tmp_path / "meanwhile", blocks)
    assert meanwhile.manifest["files"] == at_once.manifest["files"]
    assert same(meanwhile.part("train"), at_once.part("train"))


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_written_goes_to_the_disk_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """Where the disk takes nothing more, that is told, as a sync that comes later would not tell it again."""
    synced: list[int] = []

    def sync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        if fails and len(synced) == 1:
            raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(table_writer, "AT_A_TIME", 1)
    monkeypatch.setattr(os, "fsync", sync)
    outcome = pytest.raises(OSError, match="the disk is broken") if fails else nullcontext()
    writer = TableWriter(tmp_path)
    parts = [writer.part(name) for name in ("train", "dev")]
    with outcome, writer:
        for part in parts:
            for _ in range(3):
                part._write("ids", np.ones(3), np.int32)
    assert all(file.closed for part in parts for file in part._files.values())
    writer.close()
    assert (tmp_path / "train" / "ids.bin").stat().st_ino in synced


def test_folders_that_are_no_table(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"has no manifest\.json"):
        Table.open(tmp_path)
    with pytest.raises(TableError, match="is not a folder"):
        Table.open(tmp_path / "none")
    for content in ("{", "[]", "{}"):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(TableError, match="is damaged"):
            Table.open(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(TableError, match="has table format 99, this version reads 1"):
        Table.open(tmp_path)
