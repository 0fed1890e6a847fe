"""Any well-formed log gives the table that AITM's dicts give, and that the encoder gives of its raw fields."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from funnelcast.data.datasets.aliccp.prepare import prepare_aliccp
from funnelcast.data.table import Table
from tests.data.datasets.aliccp import reference as aitm

FIELDS = ("101", "205", "20", "109_14", "301")
INDEXES = [f"{i:016x}" for i in (0, 1, 2**63, 2**64 - 1)]

feature = st.tuples(st.sampled_from([*FIELDS, "2", "2050", "210", "127_14", "110_14_28"]), st.integers(0, 6))
features = st.lists(feature, max_size=8)
common_lines = st.lists(st.builds(aitm.common_line, st.sampled_from(INDEXES), features), max_size=4).map(
    lambda lines: [*(aitm.common_line(index, []) for index in INDEXES), *lines]
)
skeleton_lines = st.lists(
    st.builds(
        aitm.skeleton_line,
        st.text(st.characters(codec="utf-8", exclude_characters=",\n\r"), min_size=1, max_size=5),
        st.integers(0, 1),
        st.integers(0, 1),
        st.sampled_from(INDEXES),
        features,
    ),
    min_size=1,
    max_size=40,
)


@dataclass
class Log:
    common: list[str]
    skeleton: list[str]


logs = st.builds(Log, common_lines, skeleton_lines)


def write(folder: Path, part: str, log: Log, end: str) -> Path:
    aitm.write_lines(folder / f"common_features_{part}.csv", log.common, end)
    return aitm.write_lines(folder / f"sample_skeleton_{part}.csv", log.skeleton, end)


def raw_columns(rows: list[aitm.Row]) -> pa.RecordBatch:
    columns = {f: [int(row.raw[f]) if f in row.raw else None for row in rows] for f in FIELDS}
    return pa.record_batch({field: pa.array(values, pa.int64()) for field, values in columns.items()})


def check_part(table: Table, part: str, rows: list[aitm.Row], vocabulary: dict[str, dict[str, int]]) -> None:
    assert table.rows(part) == len(rows)
    if rows:
        columns = table.part(part)
        np.testing.assert_array_equal(columns.ids, aitm.aitm_ids(rows, vocabulary))
        np.testing.assert_array_equal(columns.ids, table.encoder.encode(raw_columns(rows)).ids)
        np.testing.assert_array_equal(columns.labels, [row.labels for row in rows])


@settings(deadline=None, max_examples=60)
@given(logs, logs, st.integers(1, 4), st.integers(1, 300), st.sampled_from(["\n", "\r\n"]))
def test_a_random_log_becomes_the_table_that_dicts_make(
    train: Log, test: Log, min_count: int, block_bytes: int, end: str
) -> None:
    rows = aitm.aitm_rows(train.skeleton, train.common, FIELDS)
    if not rows:
        return
    schema = aitm.small_schema(FIELDS, min_count)
    with tempfile.TemporaryDirectory() as folder:
        one, two = (write(Path(folder), part, log, end) for part, log in (("train", train), ("test", test)))
        prepare_aliccp(one, two, Path(folder) / "out", schema=schema, block_bytes=block_bytes)
        table, vocabulary = Table.open(Path(folder) / "out"), aitm.aitm_vocabulary(rows, FIELDS, min_count)
        dev = aitm.aitm_dev(len(rows))
        check_part(table, "train", [row for row, is_dev in zip(rows, dev, strict=True) if not is_dev], vocabulary)
        check_part(table, "dev", [row for row, is_dev in zip(rows, dev, strict=True) if is_dev], vocabulary)
        check_part(table, "test", aitm.aitm_rows(test.skeleton, test.common, FIELDS), vocabulary)
