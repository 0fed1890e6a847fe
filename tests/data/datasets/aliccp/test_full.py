"""Multi-valued fields of a log known by hand: every id with its value, lists of common lines stored once."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from funnelcast.data.datasets.aliccp.prepare import prepare_aliccp
from funnelcast.data.datasets.aliccp.schema import aliccp_schema
from funnelcast.data.table import Table
from funnelcast.errors import ConfigError
from funnelcast.schema.dataset import Schema
from tests.data.datasets.aliccp.reference import (
    common_line,
    feature_list,
    listed,
    parsed,
    skeleton_line,
    small_schema,
    write_lines,
)

MULTI = ("109_14", "210", "508")
SCHEMA = small_schema(("101", "205", *MULTI), 2, MULTI)
A, B, C = ("a" * 15 + digit for digit in "123")

COMMON = [
    common_line(A, parsed("109_14:7:0.69315 101:5 109_14:8:1.09861 109_14:7:2.5")),
    common_line(B, parsed("109_14:1 101:5")),
    common_line(B, parsed("109_14:9:-1e1 101:6 109_14:8:.5")),  # the last line of an index holds
    common_line(C, parsed("101:6")),
]
SKELETON = [
    skeleton_line("s1", 0, 0, A, parsed("205:1 210:3:1.0 210:4:1.0")),
    skeleton_line("s2", 1, 0, A, parsed("210:4:2.0 508:6:0.69315 205:1")),
    skeleton_line("s3", 0, 0, B, parsed("205:2 210:3")),
    skeleton_line("s4", 0, 0, B, parsed("205:2 508:6:1.38629")),  # the first dev row of seed 2020
    skeleton_line("s5", 0, 0, C, parsed("205:2 210:3:0.5 210:5")),
    skeleton_line("x1", 0, 1, A, parsed("205:9 210:5")),  # broken: its lists are not counted
    f"x2,0,0,{A},1,210\x025\x031.2.3",
]
TEST_COMMON = [common_line(C, parsed("109_14:8:3.5 109_14:100"))]
TEST_SKELETON = [skeleton_line("t1", 0, 0, C, parsed("508:6 210:99:7.25")), skeleton_line("t2", 0, 0, C, [])]
LN2, LN3, LN4 = (float(np.float32(value)) for value in (0.69315, 1.09861, 1.38629))


def write(folder: Path, part: str, skeleton: list[str], common: list[str]) -> Path:
    write_lines(folder / f"common_features_{part}.csv", common)
    return write_lines(folder / f"sample_skeleton_{part}.csv", skeleton)


@pytest.fixture
def train(tmp_path: Path) -> Path:
    return write(tmp_path, "train", SKELETON, COMMON)


def prepared(folder: Path, schema: Schema = SCHEMA, test: Path | None = None) -> Table:
    prepare_aliccp(folder / "sample_skeleton_train.csv", test, folder / "out", max_bad=1, schema=schema, replace=True)
    return Table.open(folder / "out")


def lists_of(table: Table, part: str) -> dict[str, list[list[tuple[int, float]]]]:
    return {name: listed(lists) for name, lists in table.part(part).ragged.items()}


def test_the_lists_of_a_log_known_by_hand(train: Path, tmp_path: Path) -> None:
    """109_14: 7 occurs four times in joined rows, 8 four times, 9 twice, 1 never. 210: 3 three times, 4 twice."""
    table = prepared(tmp_path, test=write(tmp_path, "test", TEST_SKELETON, TEST_COMMON))
    values = {name: table.encoder.vocabularies[name].values.to_pylist() for name in MULTI}
    assert values == {"109_14": [7, 8, 9], "210": [3, 4], "508": [6]}
    a, b = [(1, LN2), (2, LN3), (1, 2.5)], [(3, -10.0), (2, 0.5)]
    assert lists_of(table, "train") == {
        "109_14": [a, a, b, []],
        "210": [[(1, 1), (2, 1)], [(2, 2)], [(1, 1)], [(1, 0.5), (0, 1)]],
        "508": [[], [(1, LN2)], [], []],
    }
    assert lists_of(table, "dev") == {"109_14": [b], "210": [[]], "508": [[(1, LN4)]]}
    assert lists_of(table, "test") == {
        "109_14": [[(2, 3.5), (0, 1)]] * 2,
        "210": [[(0, 7.25)], []],
        "508": [[(1, 1)], []],
    }
    np.testing.assert_array_equal(table.part("train").ids, [[1, 1], [1, 1], [2, 2], [2, 2]])


def test_lists_of_common_lines_are_stored_once(train: Path, tmp_path: Path) -> None:
    table = prepared(tmp_path)
    shared, own = (table.part("dev").ragged[name] for name in ("109_14", "210"))
    assert shared.index is not None and own.index is None
    assert (shared.index.tolist(), shared.offsets.tolist()) == ([1], [0, 3, 5, 5])
    assert not list((table.folder / "dev").glob("109_14.[iow][de]*s.bin"))
    files = table.manifest["files"]
    assert files["dev/109_14.ids.bin"] == {**files["train/109_14.ids.bin"], "stored_as": "train/109_14.ids.bin"}


def test_a_field_in_both_files_has_the_ids_of_both(train: Path, tmp_path: Path) -> None:
    """The common line's come first. The lists of the line's other rows stay as they are."""
    lines = [skeleton_line("s1", 0, 0, A, parsed("109_14:9:4 205:1 109_14:7")), *SKELETON[1:5]]
    write_lines(train, lines)
    table = prepared(tmp_path, small_schema(("109_14", "205"), 1, ["109_14"]))
    a, b = [(1, LN2), (2, LN3), (1, 2.5)], [(3, -10.0), (2, 0.5)]
    lists = table.part("train").ragged["109_14"]
    assert listed(lists) == [[*a, (3, 4), (1, 1)], a, b, []]
    assert lists.index is not None and lists.index.tolist() == [3, 0, 1, 2]


def test_an_id_counts_once_for_each_row_of_its_common_line(train: Path, tmp_path: Path) -> None:
    """7 stands twice in line A: two in each of the rows without own ids, one of them dev, three in that with one."""
    rows = [[], parsed("109_14:7"), [], [], []]
    write_lines(train, [skeleton_line(f"s{i}", 0, 0, A, row) for i, row in enumerate(rows)])
    for minimum, known in ((11, [7]), (12, [])):
        table = prepared(tmp_path, small_schema(("101", "109_14"), minimum, ["109_14"]))
        assert table.encoder.vocabularies["109_14"].values.to_pylist() == known


def test_fields_of_either_kind_share_a_vocabulary(train: Path, tmp_path: Path) -> None:
    features = {
        "508": {"kind": "multi", "vocabulary": "things", "min_count": 2},
        "205": {"vocabulary": "things", "min_count": 2},
    }
    write_lines(
        train, [skeleton_line(f"s{i}", 0, 0, C, parsed(text)) for i, text in enumerate(["205:6 508:5", "508:6"])]
    )
    table = prepared(tmp_path, SCHEMA.from_dict({**SCHEMA.model_dump(), "features": features}))
    columns = table.part("train")
    assert columns.ids.tolist() == [[1], [0]] and listed(columns.ragged["508"]) == [[(0, 1)], [(1, 1)]]
    assert columns.ragged["508"].weights is None


def test_a_bad_value_of_a_multi_valued_field_is_put_aside(train: Path, tmp_path: Path) -> None:
    """Of a field whose value is not used it need not be a number in all, as AITM does not look at it."""
    odd = [
        f"o{i},0,0,{C},{feature_list([(name, 5, value)])}"
        for i, (name, value) in enumerate(
            [("210", "1e999"), ("210", "-"), ("109_14", "1e+"), ("205", "1.2.3"), ("999", "--"), ("210", "x")]
        )
    ]
    write_lines(train, [*SKELETON, *odd])
    table = prepared(tmp_path)
    with (tmp_path / "out.quarantine.csv").open(newline="", encoding="utf-8") as file:
        rows = [(row["line"], row["reason"]) for row in csv.DictReader(file)]
    assert rows == [(line, "the value of feature 1 is not a number") for line in ("7", "8", "9", "10", "13")]
    assert table.manifest["counts"]["quarantined: value"] == 5


def test_a_bad_common_line_leaves_no_ids_behind(train: Path, tmp_path: Path) -> None:
    bad = f"{C},3,109_14\x027\x031.0\x01109_14\x028\x031.0\x01109_14\x028\x03one"
    write_lines(tmp_path / "common_features_train.csv", [bad, *COMMON, bad])
    table = prepared(tmp_path)
    assert lists_of(table, "train")["109_14"][3] == []


def test_the_built_in_schema_has_all_fields() -> None:
    aitm, full = aliccp_schema(), aliccp_schema("aliccp-full")
    assert len(full.features) == 23
    single = [name for name, feature in full.features.items() if feature.kind == "categorical"]
    assert [name for name in aitm.features if name in single] == single and len(single) == 14
    multi = {name: feature for name, feature in full.features.items() if feature.kind == "multi"}
    assert {name: feature.weights for name, feature in multi.items()} == {name: f"{name}_value" for name in multi}
    assert {feature.min_count for feature in full.features.values() if feature.kind != "numeric"} == {12}
    assert (full.funnel, full.split, full.keep) == (aitm.funnel, aitm.split, aitm.keep)
    with pytest.raises(ConfigError, match="aliccp-fall: is no built-in schema of Ali-CCP; did you mean 'aliccp-full'?"):
        aliccp_schema("aliccp-fall")


def test_a_built_in_schema_by_its_name(train: Path, tmp_path: Path) -> None:
    write_lines(train, [skeleton_line(f"s{i}", 0, 0, A, parsed("205:1 853:2:0.5")) for i in range(30)])
    manifest = prepare_aliccp(train, None, tmp_path / "out", schema="aliccp-full")
    assert manifest["protocol"]["name"] == "aliccp-full"
    lists = lists_of(Table.open(tmp_path / "out"), "dev")
    assert lists["853"][0] == [(1, 0.5)] and lists["109_14"][0] == [(1, LN2), (2, LN3), (1, 2.5)]


def test_kinds_and_weights_the_raw_files_do_not_have(tmp_path: Path) -> None:
    features = {
        "109_14": {"kind": "sequence"},
        "205": {"kind": "numeric"},
        "210": {"kind": "multi", "weights": "value"},
    }
    schema = SCHEMA.from_dict({**SCHEMA.model_dump(), "features": features})
    with pytest.raises(ConfigError) as caught:
        prepare_aliccp(tmp_path / "x", None, tmp_path / "out", schema=schema)
    faults = [str(fault) for fault in caught.value.faults]
    assert "kind 'sequence' is not read from Ali-CCP: its lists have no order" in faults[0]
    assert "kind 'numeric' is not read from Ali-CCP: its ids are names, not numbers" in faults[1]
    assert faults[2].startswith("features.210.weights") and "write '210_value'" in faults[2]


@pytest.mark.parametrize("at", ["reading common features", "reading train", "writing train", "reading test"])
def test_a_run_that_fails_leaves_nothing(train: Path, tmp_path: Path, at: str) -> None:
    def fail(stage: str, done: int, total: int, unit: str, note: str = "") -> None:
        if stage == at:
            raise KeyboardInterrupt

    test = write(tmp_path, "test", TEST_SKELETON, TEST_COMMON)
    with pytest.raises(KeyboardInterrupt):
        prepare_aliccp(train, test, tmp_path / "new", max_bad=1, schema=SCHEMA, progress=fail)
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".*partial*"))


@pytest.mark.parametrize("block_bytes", [1, 37, 200])
def test_the_size_of_blocks_changes_no_list(train: Path, tmp_path: Path, block_bytes: int) -> None:
    one = prepare_aliccp(train, None, tmp_path / "one", max_bad=1, schema=SCHEMA)
    two = prepare_aliccp(train, None, tmp_path / "two", max_bad=1, schema=SCHEMA, block_bytes=block_bytes)
    assert one["protocol"]["fingerprint"] == two["protocol"]["fingerprint"]
