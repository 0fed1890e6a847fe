"""Every fault of a raw line has its reason, and no bytes can break the tokenizer."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funnelcast.data.datasets.aliccp.fields import wanted_fields
from funnelcast.data.datasets.aliccp.files import COMMON, SKELETON, Source
from funnelcast.data.datasets.aliccp.ids import IdTable
from funnelcast.data.datasets.aliccp.rows import LineReader, split_lines
from funnelcast.data.datasets.aliccp.tokens import MISSING, tokenize
from funnelcast.data.quarantine import Quarantine
from tests.data.datasets.aliccp.reference import feature_list, parsed

INDEX = b"84dceed2e3a667f8"
GOOD = b"s1,0,0,84dceed2e3a667f8,2,205\x024186222\x031.0\x01508\x029355039\x030.69315"


def index() -> IdTable:
    table = IdTable()
    table.intern(np.array([int(INDEX, 16)], np.uint64).view(np.int64), np.ones(1, bool))
    return table


def reasons(folder: Path, content: bytes, kind: str = SKELETON, limit: float = 1.0) -> list[tuple[int, str]]:
    path = folder / "rows.csv"
    path.write_bytes(content)
    found = []

    class Recorder(Quarantine):
        def add(self, file: Path, line: int, reason: str, text: str) -> None:
            super().add(file, line, reason, text)
            found.append((line, reason))

    with Recorder(folder / "q.csv", limit) as quarantine:
        reader = LineReader(wanted_fields(["205", "508"]), quarantine)
        reader.go_through(Source(path, kind, "train"), index=index() if kind == SKELETON else None)
        assert sum(reader.faults.values()) == len(found)
    return found


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"s1,", b"", "the number of columns is 5, not 6"),
        (b"0.69315", b"0,69315", "the number of columns is 7, not 6"),
        (GOOD, b"", "the number of columns is 1, not 6"),
        (GOOD, b"sample_id,click,conversion,common_feature_index,feature_num,feature_list", "click is not 0 or 1"),
        (b"s1,", b",", "sample_id is empty"),
        (b"0,0,", b"2,0,", "click is not 0 or 1"),
        (b"0,0,", b"0,01,", "conversion is not 0 or 1"),
        (b"0,0,", b"0,,", "conversion is not 0 or 1"),
        (INDEX, b"", "common_feature_index is not 1 to 16 hex digits"),
        (INDEX, INDEX + b"0", "common_feature_index is not 1 to 16 hex digits"),
        (INDEX, b"84dceed2e3a667fg", "common_feature_index is not 1 to 16 hex digits"),
        (INDEX, b"84dceed2e3a667f9", "common_feature_index is not in the common features file"),
        (b",2,", b",two,", "feature_num is not a whole number"),
        (b",2,", b",,", "feature_num is not a whole number"),
        (b",2,", b",5,", "feature_num says 5, the list has 2"),
        (b"\x01", b"", "feature_num says 2, the list has 1"),
        (b"0.69315", b"0.69315\x01", "feature_num says 2, the list has 3"),
        (b"205\x024186222\x031.0\x01508\x029355039\x030.69315", b"", "feature_num says 2, the list has 0"),
        (b"508\x02", b"508", "feature 2 is not a field, an id and a value"),
        (b"508\x02", b"\x02", "feature 2 is not a field, an id and a value"),
        (b"\x039355039\x030.69315".replace(b"\x039", b"9"), b"9355039", "feature 2 is not a field, an id and a value"),
        (b"9355039\x030.69315", b"", "feature 2 is not a field, an id and a value"),
        (b"4186222", b"", "the id of feature 1 is not a whole number of at most 18 digits"),
        (b"4186222", b"-1", "the id of feature 1 is not a whole number of at most 18 digits"),
        (b"4186222", b"1.5", "the id of feature 1 is not a whole number of at most 18 digits"),
        (b"4186222", b"1" * 19, "the id of feature 1 is not a whole number of at most 18 digits"),
        (b"0.69315", b"", "the value of feature 2 is not a number"),
        (b"0.69315", b"nan", "the value of feature 2 is not a number"),
        (b"1.0\x01", b"1.0\x02\x01", "the value of feature 1 is not a number"),
        (b"s1", b"s\xff", "the line is not UTF-8"),
        (b"s1", b"\xe9", "the line is not UTF-8"),
    ],
)
def test_each_fault_of_a_skeleton_line_has_its_reason(tmp_path: Path, old: bytes, new: bytes, reason: str) -> None:
    assert old in GOOD
    bad = GOOD.replace(old, new, 1)
    assert reasons(tmp_path, GOOD + b"\n" + bad + b"\n" + GOOD + b"\n") == [(2, reason)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"84dceed2e3a667f8,0", "the number of columns is 2, not 3"),
        (GOOD, "the number of columns is 6, not 3"),
        (b"xyz,0,", "common_feature_index is not 1 to 16 hex digits"),
        (b"84dceed2e3a667f8,3,101\x021\x031.0\x01121\x02", "feature_num says 3, the list has 2"),
        (b"84dceed2e3a667f8,2,101\x021\x031.0\x01121\x02", "feature 2 is not a field, an id and a value"),
    ],
)
def test_each_fault_of_a_common_line_has_its_reason(tmp_path: Path, line: bytes, reason: str) -> None:
    assert reasons(tmp_path, b"84dceed2e3a667f8,0,\n" + line, COMMON) == [(2, reason)]


@pytest.mark.parametrize("id_", ["é漢".encode(), b"s 1", b'"s1"'])
def test_a_sample_id_may_be_any_text(tmp_path: Path, id_: bytes) -> None:
    assert reasons(tmp_path, GOOD.replace(b"s1", id_)) == []


def test_values_may_be_any_number(tmp_path: Path) -> None:
    for value in (b"1", b"-1.5E+10", b".5", b"1e-7"):
        assert reasons(tmp_path, GOOD.replace(b"0.69315", value)) == []


@pytest.mark.slow
def test_the_largest_id_and_index() -> None:
    data = np.frombuffer(b"FFFFffffFFFFffff,1,205\x02999999999999999999\x031.0\n", np.uint8)
    tokens = tokenize(data, *split_lines(data, True), wanted_fields(["205"]), skeleton=False)
    assert (tokens.keys[0], tokens.values[0, 0]) == (-1, 999_999_999_999_999_999)


def items(data: bytes, multi: list[str]) -> tuple[list[list[tuple[int, int, float]]], list[int]]:
    """Place of the field, id and value of every item of each line, and the faults."""
    block = np.frombuffer(data, np.uint8)
    found = tokenize(block, *split_lines(block, True), wanted_fields(["205"], multi), skeleton=False)
    ends, *columns = found.items
    listed = [(int(field), int(id_), float(weight)) for field, id_, weight in zip(*columns, strict=True)]
    return [listed[begin:end] for begin, end in pairwise(ends.tolist())], found.faults.tolist()


def test_every_id_of_a_multi_valued_field_is_taken_with_its_value() -> None:
    line = f"0,{feature_list(parsed('210:1:0.5 205:9 109_14:2 210:1 109_14:3:-1e40 999:4'))}".encode()
    lists, faults = items(line + b"\n0,0,\n" + line, ["109_14", "210"])
    largest = float(np.finfo(np.float32).max)
    assert lists == [one := [(1, 1, 0.5), (0, 2, 1.0), (1, 1, 1.0), (0, 3, -largest)], [], one]
    assert faults == [0, 0, 0]


def test_there_is_room_for_the_shortest_features() -> None:
    line = b"0,9," + b"\x01".join([b"7\x021\x033"] * 9)
    lists, faults = items(b"\n".join([line] * 500), ["7"])
    assert lists == [[(0, 1, 3.0)] * 9] * 500 and not any(faults)
    bad = b"\x01".join([b"7\x021\x033"] * 5000)
    assert items(bad + b"\n" + line, ["7"])[0][1] == [(0, 1, 3.0)] * 9


def test_only_the_wanted_fields_are_taken() -> None:
    fields = ["205", "109_14", "20", "2050"]
    listed = feature_list(parsed("20:1 109_14:2 109_1:3 205109_14:5 2051:6 109_14:7"))
    data = np.frombuffer(f"0,{listed}".encode(), np.uint8)
    tokens = tokenize(data, *split_lines(data, True), wanted_fields(fields), skeleton=False)
    assert tokens.values[:, 0].tolist() == [MISSING, 7, 1, MISSING]


@given(st.binary(max_size=400))
def test_any_bytes_are_told_apart_without_a_crash(data: bytes) -> None:
    block = np.frombuffer(data, np.uint8)
    starts, ends = split_lines(block, last=False)
    assert [data[a:b] for a, b in zip(starts, ends, strict=True)] == _lines(data)
    for skeleton in (True, False):
        assert tokenize(block, starts, ends, wanted_fields(["205"]), skeleton=skeleton).faults.all()


def _lines(data: bytes) -> list[bytes]:
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    return [line.removesuffix(b"\r") for line in lines]


@settings(deadline=None)
@given(st.data())
def test_a_damaged_byte_is_seen_or_harmless(data: st.DataObject) -> None:
    """A line with one byte changed is quarantined, or reads as what it now says."""
    place = data.draw(st.integers(0, len(GOOD) - 1))
    byte = data.draw(st.sampled_from(sorted(set(GOOD) | set(b"\x00\xff-z"))))
    changed = bytearray(GOOD)
    changed[place] = byte
    block = np.frombuffer(bytes(changed), np.uint8)
    tokens = tokenize(block, *split_lines(block, True), wanted_fields(["205", "508"]), skeleton=True)
    columns = bytes(changed).split(b",")
    if tokens.faults[0] == 0:
        assert len(columns) == 6 and columns[1] in b"01" and columns[2] in b"01"
        said = [feature.split(b"\x02") for feature in columns[5].split(b"\x01")]
        assert int(columns[4]) == len(said) and all(len(parts) == 2 for parts in said)
        last = {field: int(rest.split(b"\x03")[0]) for field, rest in said}
        assert tokens.values[:, 0].tolist() == [last.get(b"205", MISSING), last.get(b"508", MISSING)]


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3000), max_size=3000))
def test_an_id_table_is_a_dict(values: list[int]) -> None:
    table, known = IdTable(), dict[int, int]()
    column = np.array(values, np.int64)
    codes = table.intern(column, np.ones(len(values), bool))
    assert codes.tolist() == [known.setdefault(value, len(known) + 1) for value in values]
    table.count(codes)
    assert table.counts.tolist() == np.bincount(codes, minlength=len(known) + 1)[1:].tolist()
    assert table.values.tolist() == list(known)
    assert table.look_up(column + 1, column != 7).tolist() == [
        known.get(int(value), 0) if old != 7 else MISSING for value, old in zip(column + 1, values, strict=True)
    ]


def test_an_id_table_counts_what_was_interned_before_it_grew() -> None:
    """As a thread counts one block while another one interns the next ones."""
    table, everywhere = IdTable(), np.ones(5000, bool)
    blocks = [table.intern(np.arange(start, start + 5000), everywhere) for start in (0, 2500, 50_000)]
    for codes in blocks:
        table.count(codes)
    assert table.counts.tolist() == np.bincount(np.concatenate(blocks))[1:].tolist()
    table.intern(np.arange(60_000, 65_000), everywhere)
    assert len(table.counts) == 17_500 and table.counts[-5000:].sum() == 0


def test_an_id_table_grows() -> None:
    table = IdTable()
    values = np.random.default_rng(0).permutation(200_000).astype(np.int64) * 1024
    for part in np.split(values, 10):
        table.intern(part, np.ones(len(part), bool))
    np.testing.assert_array_equal(table.look_up(values, np.ones(len(values), bool)), np.arange(1, 200_001))
