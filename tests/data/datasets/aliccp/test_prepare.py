"""A hand-written log whose table is known, AITM's protocol, and what is refused."""

from __future__ import annotations

import csv
import gzip
import random
import subprocess
import sys
import tarfile
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from funnelcast.data.datasets.aliccp.prepare import dev_draws, prepare_aliccp
from funnelcast.data.datasets.aliccp.schema import aliccp_schema
from funnelcast.data.table import Table
from funnelcast.errors import ConfigError, DataError, FunnelcastError, QuarantineError
from tests.data.datasets.aliccp.reference import common_line, parsed, skeleton_line, small_schema, write_lines

FIELDS = ("101", "205", "301")
SCHEMA = small_schema(FIELDS, min_count=2)
A, B, C, D = ("a" * 15 + digit for digit in "1234")

COMMON = [
    common_line(A, parsed("101:5 109_14:77 109_14:78")),
    common_line(B, parsed("101:9 101:8 205:70")),  # the last 101 holds; its 205 goes before the skeleton's
    common_line(C, []),
    common_line(D, parsed("101:1")),
    common_line(D, parsed("101:5 301:3")),  # the last line of an index holds
]
SKELETON = [
    skeleton_line("s1", 0, 0, A, parsed("205:7 301:1")),
    skeleton_line("s2", 1, 0, A, parsed("205:7 205:6 301:1")),
    skeleton_line("s3", 1, 1, B, parsed("205:6 301:2")),
    skeleton_line("s4", 0, 1, A, parsed("205:99 301:1")),  # broken: its 99 is not counted
    skeleton_line("s5", 0, 0, C, parsed("301:1 205:7 210:5")),
    "",
    skeleton_line("s6", 0, 0, D, parsed("205:99 301:2")),
    skeleton_line("s7", 0, 0, D, []),
    skeleton_line("s8", 0, 0, B, parsed("2050:1 301:2")),
    skeleton_line("x1", 2, 0, A, parsed("205:99 301:1")),
    skeleton_line("s9", 0, 0, A, parsed("205:6 301:2")),
    skeleton_line("x2", 0, 0, "b" * 16, parsed("205:99")),
    *[skeleton_line(f"f{i}", 0, 0, C, parsed(f"205:{1000 + i} 301:1")) for i in range(15)],
    f"x3,0,0,{A},2,205\x02seven\x031.0\x01301\x021\x031.0",
    f"x4,0,0,{A},3,205\x0299\x031.0\x01301\x021\x031.0",
    f"x5,0,0,{A},2,205\x0299\x031.0\x01301\x02",
]
TRAIN_IDS = [[1, 2, 1], [1, 1, 1], [2, 3, 2], [1, 0, 3], [2, 3, 2], [1, 1, 2], *[[0, 0, 1]] * 14]
TRAIN_LABELS = [[0, 0], [1, 0], [1, 1], *[[0, 0]] * 17]
DEV_IDS = [[0, 2, 1], [1, 0, 3], [0, 0, 1]]  # kept rows 3, 5 and 22 of seed 2020
BAD = [
    ("6", "the number of columns is 1, not 6"),
    ("10", "click is not 0 or 1"),
    ("12", "common_feature_index is not in the common features file"),
    ("28", "the id of feature 1 is not a whole number of at most 18 digits"),
    ("29", "feature_num says 3, the list has 2"),
    ("30", "feature 2 is not a field, an id and a value"),
]

TEST_COMMON = [common_line(A, parsed("101:8")), common_line(B, parsed("101:4 205:12345"))]
TEST_SKELETON = [
    skeleton_line("t1", 1, 1, A, parsed("205:7 301:3")),
    skeleton_line("t2", 0, 0, B, parsed("205:6 301:9")),  # the common line's unknown 205 goes before the known 6
    skeleton_line("t3", 0, 1, B, parsed("205:6 301:9")),
]


@pytest.fixture
def train(tmp_path: Path) -> Path:
    write_lines(tmp_path / "common_features_train.csv", COMMON)
    return write_lines(tmp_path / "sample_skeleton_train.csv", SKELETON)


@pytest.fixture
def test_file(tmp_path: Path) -> Path:
    write_lines(tmp_path / "common_features_test.csv", TEST_COMMON)
    return write_lines(tmp_path / "sample_skeleton_test.csv", TEST_SKELETON)


def sample_ids(table: Table, part: str) -> list[str]:
    return [str(value) for value in table.side(part)["sample_id"].to_pylist()]


def test_the_table_of_a_log_known_by_hand(train: Path, test_file: Path, tmp_path: Path) -> None:
    prepare_aliccp(train, test_file, tmp_path / "out", max_bad=1, schema=SCHEMA)
    table = Table.open(tmp_path / "out")
    np.testing.assert_array_equal(table.part("train").ids, TRAIN_IDS)
    np.testing.assert_array_equal(table.part("train").labels, TRAIN_LABELS)
    np.testing.assert_array_equal(table.part("dev").ids, DEV_IDS)
    np.testing.assert_array_equal(table.part("test").ids, [[2, 2, 3], [0, 0, 0]])
    np.testing.assert_array_equal(table.part("test").labels, [[1, 1], [0, 0]])
    assert sample_ids(table, "dev") == ["s5", "s7", "f14"]
    assert sample_ids(table, "test") == ["t1", "t2"]
    assert sample_ids(table, "train")[:7] == ["s1", "s2", "s3", "s6", "s8", "s9", "f0"]


def test_compressed_files_and_archives_give_the_same_table(train: Path, tmp_path: Path) -> None:
    plain = prepare_aliccp(train, None, tmp_path / "plain", max_bad=1, schema=SCHEMA)
    names = ("sample_skeleton_train.csv", "common_features_train.csv")  # the skeleton stands first
    with tarfile.open(tmp_path / "sample_train.tar.gz", "w:gz") as archive:
        for name in names:
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
            archive.add(tmp_path / name, name)
    for name in ("sample_train.tar.gz", "sample_skeleton_train.csv.gz"):
        packed = prepare_aliccp(tmp_path / name, None, tmp_path / "packed", max_bad=1, schema=SCHEMA, replace=True)
        assert packed == plain


def test_the_vocabularies_of_a_log_known_by_hand(train: Path, tmp_path: Path) -> None:
    prepare_aliccp(train, None, tmp_path / "out", max_bad=1, schema=SCHEMA)
    vocabularies = Table.open(tmp_path / "out").encoder.vocabularies
    assert {name: v.values.to_pylist() for name, v in vocabularies.items()} == {
        "101": [5, 8],
        "205": [6, 7, 70],
        "301": [1, 2, 3],
    }


def test_the_counts_of_a_log_known_by_hand(train: Path, test_file: Path, tmp_path: Path) -> None:
    manifest = prepare_aliccp(train, test_file, tmp_path / "out", max_bad=1, schema=SCHEMA)
    assert manifest["rows"] == {"train": 20, "dev": 3, "test": 2}
    assert manifest["counts"] == {
        "train common lines read": 5,
        "train common lines repeated": 1,
        "train rows read": 30,
        "train broken rows": 1,
        "test common lines read": 2,
        "test common lines repeated": 0,
        "test rows read": 3,
        "test broken rows": 1,
        "quarantined: columns": 1,
        "quarantined: feature": 1,
        "quarantined: feature_num": 1,
        "quarantined: id": 1,
        "quarantined: label": 1,
        "quarantined: unknown common_feature_index": 1,
        "vocabulary 101": 3,
        "vocabulary 205": 4,
        "vocabulary 301": 4,
    }


def test_bad_lines_go_to_quarantine_with_file_line_reason_and_text(train: Path, tmp_path: Path) -> None:
    prepare_aliccp(train, None, tmp_path / "out", max_bad=1, schema=SCHEMA)
    with (tmp_path / "out.quarantine.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["line"], row["reason"]) for row in rows] == BAD
    assert {row["file"] for row in rows} == {"sample_skeleton_train.csv"}
    assert [row["text"] for row in rows] == [SKELETON[int(line) - 1] for line, _ in BAD]


def test_too_many_bad_lines_stop_the_run_and_leave_no_table(train: Path, tmp_path: Path) -> None:
    with pytest.raises(QuarantineError, match=r"6 of 35 rows are bad.*1 × click is not 0 or 1"):
        prepare_aliccp(train, None, tmp_path / "out", max_bad=0.1, schema=SCHEMA)
    assert [path.name for path in tmp_path.glob("*out*")] == ["out.quarantine.csv"]


def test_a_file_of_bad_lines_stops_after_its_first_block(train: Path, tmp_path: Path) -> None:
    write_lines(train, ["a line,of another,format"] * 10_000)
    with pytest.raises(QuarantineError, match="the number of columns is 3, not 6"):
        prepare_aliccp(train, None, tmp_path / "out", schema=SCHEMA, block_bytes=1000)
    assert len((tmp_path / "out.quarantine.csv").read_text().splitlines()) < 100


def test_bad_lines_that_stand_together_do_not_stop_a_good_file(train: Path, tmp_path: Path) -> None:
    write_lines(train, [*["bad"] * 10, *SKELETON[:3] * 500])
    manifest = prepare_aliccp(train, None, tmp_path / "out", max_bad=0.01, schema=SCHEMA, block_bytes=500)
    assert manifest["counts"]["quarantined: columns"] == 10


@pytest.mark.parametrize("block_bytes", [1, 37, 400])
def test_the_size_of_blocks_changes_nothing(train: Path, test_file: Path, tmp_path: Path, block_bytes: int) -> None:
    one = prepare_aliccp(train, test_file, tmp_path / "one", max_bad=1, schema=SCHEMA)
    two = prepare_aliccp(train, test_file, tmp_path / "two", max_bad=1, schema=SCHEMA, block_bytes=block_bytes)
    differ = {name for name, file in one["files"].items() if file != two["files"][name]}
    assert one["counts"] == two["counts"] and all(name.endswith("side.parquet") for name in differ)
    for part in ("train", "dev", "test"):
        assert Table.open(tmp_path / "one").side(part).equals(Table.open(tmp_path / "two").side(part))
    assert (tmp_path / "one.quarantine.csv").read_text() == (tmp_path / "two.quarantine.csv").read_text()


@pytest.mark.parametrize("end", ["\r\n", "\n\n"])
def test_windows_line_ends_and_blank_lines(train: Path, tmp_path: Path, end: str) -> None:
    write_lines(train, [line for line in SKELETON[:9] if line], end)
    manifest = prepare_aliccp(train, None, tmp_path / "out", max_bad=1, schema=SCHEMA)
    assert sum(manifest["rows"].values()) == 7
    assert manifest["counts"].get("quarantined: columns", 0) == (0 if end == "\r\n" else 7)


def test_an_id_is_kept_from_12_occurrences_on(tmp_path: Path) -> None:
    write_lines(tmp_path / "common_features_train.csv", [common_line(C, [])])
    rows = [parsed("205:41 216:3")] * 11 + [parsed("205:40 216:3")] * 12
    lines = [skeleton_line(f"s{i}", 0, 0, C, row) for i, row in enumerate(rows)]
    manifest = prepare_aliccp(write_lines(tmp_path / "sample_skeleton_train.csv", lines), None, tmp_path / "out")
    vocabularies = Table.open(tmp_path / "out").encoder.vocabularies
    assert vocabularies["205"].values.to_pylist() == [40]
    assert vocabularies["216"].values.to_pylist() == [3]
    assert manifest["counts"]["vocabulary 101"] == 1
    assert manifest["protocol"]["name"] == "aliccp-aitm"


def test_the_built_in_schema_is_aitms() -> None:
    schema = aliccp_schema()
    assert ",".join(schema.features) == "101,121,122,124,125,126,127,128,129,205,206,207,216,508,509,702,853,301"
    assert {feature.min_count for feature in schema.features.values() if feature.kind == "categorical"} == {12}
    assert (schema.split.dev, schema.split.seed, schema.funnel.on_broken) == (0.1, 2020, "drop")


def test_dev_draws_are_pythons() -> None:
    stream = random.Random(2020)
    draws = dev_draws(2020)
    found = np.concatenate([draws.random_sample(n) for n in (1, 999, 9000)])
    assert found.tolist() == [stream.random() for _ in range(10_000)]


def test_fields_that_share_a_vocabulary_are_counted_together(train: Path, tmp_path: Path) -> None:
    rows = [parsed("205:7 206:8"), parsed("206:7")]
    write_lines(train, [skeleton_line(f"s{i}", 0, 0, C, row) for i, row in enumerate(rows)])
    features = {"205": {"vocabulary": "items", "min_count": 2}, "206": {"vocabulary": "items", "min_count": 2}}
    schema = SCHEMA.from_dict({**SCHEMA.model_dump(), "features": features})
    prepare_aliccp(train, None, tmp_path / "out", schema=schema)
    np.testing.assert_array_equal(Table.open(tmp_path / "out").part("train").ids, [[1, 0], [0, 1]])


def test_progress_names_the_stages(train: Path, test_file: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int, str]] = []

    def note(stage: str, done: int, total: int, unit: str, note: str = "") -> None:
        assert note.endswith("rows/s")
        seen.append((stage, done, total, unit))

    prepare_aliccp(train, test_file, tmp_path / "out", max_bad=1, schema=SCHEMA, progress=note)
    size = train.stat().st_size
    assert ("reading train", size, size, "bytes") in seen and ("writing train", 23, 23, "rows") in seen
    order = ["reading common features", "reading train", "writing train", "reading common features", "reading test"]
    assert [stage for stage, _ in groupby(stage for stage, *_ in seen)] == order


@pytest.mark.parametrize("at", ["reading common features", "reading train", "writing train", "reading test"])
def test_a_run_that_fails_leaves_the_old_table(train: Path, test_file: Path, tmp_path: Path, at: str) -> None:
    def fail(stage: str, done: int, total: int, unit: str, note: str = "") -> None:
        if stage == at:
            raise KeyboardInterrupt

    old = prepare_aliccp(train, test_file, tmp_path / "out", max_bad=1, schema=SCHEMA)
    for name in ("out", "new"):
        with pytest.raises(KeyboardInterrupt):
            prepare_aliccp(train, test_file, tmp_path / name, max_bad=1, replace=True, progress=fail)
    assert Table.open(tmp_path / "out").manifest == old
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".*partial*"))


def test_an_existing_table_is_not_replaced_unasked(train: Path, tmp_path: Path) -> None:
    prepare_aliccp(train, None, tmp_path / "out", max_bad=1, schema=SCHEMA)
    with pytest.raises(FunnelcastError, match="exists already"):
        prepare_aliccp(train, None, tmp_path / "out", max_bad=1, schema=SCHEMA)
    assert (tmp_path / "out.quarantine.csv").is_file()


def test_no_row_to_train_on(train: Path, tmp_path: Path) -> None:
    write_lines(train, [SKELETON[3]])
    with pytest.raises(DataError, match="no row to train on"):
        prepare_aliccp(train, None, tmp_path / "out", schema=SCHEMA)


def test_inconsistent_rows_can_be_an_error(train: Path, tmp_path: Path) -> None:
    schema = SCHEMA.from_dict({**SCHEMA.model_dump(), "funnel": {**SCHEMA.funnel.model_dump(), "on_broken": "error"}})
    with pytest.raises(DataError, match=r"sample_skeleton_train.csv, lines 1 to 30: 1 rows contradict the funnel"):
        prepare_aliccp(train, None, tmp_path / "out", max_bad=1, schema=schema)


def test_common_features_cannot_be_guessed(train: Path, tmp_path: Path) -> None:
    odd = train.rename(tmp_path / "rows.csv")
    with pytest.raises(DataError, match="its common features file cannot be found beside it; name both"):
        prepare_aliccp(odd, None, tmp_path / "out", schema=SCHEMA)
    common = tmp_path / "common_features_train.csv"
    prepare_aliccp(odd, None, tmp_path / "out", common_train=common, max_bad=1, schema=SCHEMA)


def test_a_schema_the_raw_files_cannot_serve(tmp_path: Path) -> None:
    schema = aliccp_schema().from_dict(
        {
            "funnel": "click; buy after click",
            "features": {"user": {"column": "101"}, "again": {"column": "101"}, "109_14": "sequence", "customer": {}},
            "split": {"by": "time", "column": "time"},
            "weight": "w",
            "keep": ["time"],
        }
    )
    with pytest.raises(ConfigError) as caught:
        prepare_aliccp(tmp_path / "x", None, tmp_path / "out", schema=schema)
    where = [fault.where for fault in caught.value.faults]
    features = ["features.user", "features.again", "features.109_14", "features.customer"]
    assert where == [*features, "funnel.labels.buy", "keep", "weight", "split.by", "split.test"]


TRUTH = pa.table(
    {
        "sample_id": [line.partition(",")[0] for line in SKELETON],
        "p_click": np.arange(30) / 100,
        "p_conversion_given_click": np.arange(30) / 1000,
    }
)


def test_known_truth_is_joined_by_row(train: Path, tmp_path: Path) -> None:
    pq.write_table(TRUTH, tmp_path / "truth_train.parquet")
    prepare_aliccp(train, None, tmp_path / "out", max_bad=1, schema=SCHEMA, block_bytes=100)
    side = Table.open(tmp_path / "out").side("dev")
    assert side["true_p_click"].to_pylist() == [0.04, 0.07, 0.26]
    assert side["true_p_conversion_given_click"].to_pylist() == [0.004, 0.007, 0.026]


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (pa.concat_tables([TRUTH.slice(1), TRUTH.slice(0, 1)]), "it has sample_id s2 for s1"),
        (TRUTH.slice(0, 29), "it has fewer rows than the skeleton file"),
        (pa.concat_tables([TRUTH, TRUTH]), "it has more rows than the skeleton file"),
        (TRUTH.drop_columns(["p_click"]), "lacks the columns p_click"),
    ],
)
def test_a_truth_that_is_not_the_files(train: Path, tmp_path: Path, truth: pa.Table, message: str) -> None:
    pq.write_table(truth, tmp_path / "truth_train.parquet")
    with pytest.raises(DataError, match=message):
        prepare_aliccp(train, None, tmp_path / "out", max_bad=1, schema=SCHEMA)


@pytest.mark.slow
def test_pandas_is_not_loaded(train: Path, test_file: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from funnelcast.data.datasets.aliccp.prepare import prepare_aliccp; "
        "prepare_aliccp(*sys.argv[1:], max_bad=1); print('pandas' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(train), str(test_file), str(tmp_path / "out")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "False"
