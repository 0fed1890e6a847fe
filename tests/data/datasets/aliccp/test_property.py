"""Any well-formed log gives the table that dicts give, whatever fields are multi-valued, and that the encoder gives of
its raw fields."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funnelcast.data.datasets.aliccp.prepare import prepare_aliccp
from funnelcast.data.numeric import LARGEST
from funnelcast.data.table import Table
from tests.data.datasets.aliccp import reference as slow

FIELDS = ("101", "205", "20", "109_14", "301")
INDEXES = [f"{i:016x}" for i in (0, 1, 2**63, 2**64 - 1)]

VALUES = ("1.0", "0.69315", "-2", "1e3", ".5", "7.", "0", "3.4028236e38", "-1e300", "0.1234567890123456789", "1e-50")

names = st.sampled_from([*FIELDS, "2", "2050", "210", "127_14", "110_14_28"])
feature = st.tuples(names, st.integers(0, 6), st.sampled_from(VALUES))
features = st.lists(feature, max_size=8)
common_lines = st.lists(st.builds(slow.common_line, st.sampled_from(INDEXES), features), max_size=4).map(
    lambda lines: [*(slow.common_line(index, []) for index in INDEXES), *lines]
)
skeleton_lines = st.lists(
    st.builds(
        slow.skeleton_line,
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
    slow.write_lines(folder / f"common_features_{part}.csv", log.common, end)
    return slow.write_lines(folder / f"sample_skeleton_{part}.csv", log.skeleton, end)


def raw_columns(rows: list[slow.Row], multi: Sequence[str]) -> pa.RecordBatch:
    columns = {}
    for name in FIELDS:
        if name in multi:
            columns[name] = pa.array([[int(i) for i, _ in row.lists[name]] for row in rows], pa.list_(pa.int64()))
            values = [[value for _, value in row.lists[name]] for row in rows]
            columns[f"{name}_value"] = pa.array(values, pa.list_(pa.float64()))
        else:
            singles = [int(row.raw[name]) if name in row.raw else None for row in rows]
            columns[name] = pa.array(singles, pa.int64())
    return pa.record_batch(columns)


@dataclass
class Expected:
    """What a table must hold."""

    vocabulary: dict[str, dict[str, int]]
    multi: Sequence[str]
    weighted: bool

    def check(self, table: Table, part: str, rows: list[slow.Row]) -> None:
        assert table.rows(part) == len(rows)
        if not rows:
            return
        columns, encoded = table.part(part), table.encoder.encode(raw_columns(rows, self.multi))
        np.testing.assert_array_equal(
            columns.ids, np.reshape(slow.ids_of(rows, self.vocabulary, self.multi), (len(rows), -1))
        )
        np.testing.assert_array_equal(columns.ids, encoded.ids)
        np.testing.assert_array_equal(columns.labels, [row.labels for row in rows])
        assert set(columns.ragged) == set(self.multi)
        for name, lists in columns.ragged.items():
            assert slow.listed(lists) == [self.of(name, row) for row in rows] == slow.listed(encoded.ragged[name])
            assert (lists.weights is not None) == self.weighted

    def of(self, name: str, row: slow.Row) -> list[tuple[int, float]]:
        ids = self.vocabulary[name]
        weights = np.array([value for _, value in row.lists[name]]).clip(-LARGEST, LARGEST).astype(np.float32)
        weights = weights if self.weighted else np.ones_like(weights)
        return [(ids.get(raw, 0), float(weight)) for (raw, _), weight in zip(row.lists[name], weights, strict=True)]


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(
    logs, logs, st.integers(1, 4), st.integers(1, 300), st.sampled_from(["\n", "\r\n"]),
    st.sets(st.sampled_from(FIELDS)) | st.just(set()), st.booleans(),
)  # fmt: skip
def test_a_random_log_becomes_the_table_that_dicts_make(
    train: Log, test: Log, min_count: int, block_bytes: int, end: str, lists: set[str], weighted: bool
) -> None:
    multi = sorted(lists)
    rows = slow.rows_of(train.skeleton, train.common, FIELDS, multi)
    if not rows:
        return
    schema = slow.small_schema(FIELDS, min_count, multi, weighted)
    with tempfile.TemporaryDirectory() as folder:
        one, two = (write(Path(folder), part, log, end) for part, log in (("train", train), ("test", test)))
        prepare_aliccp(one, two, Path(folder) / "out", schema=schema, block_bytes=block_bytes)
        table, dev = Table.open(Path(folder) / "out"), slow.aitm_dev(len(rows))
        expected = Expected(slow.vocabulary_of(rows, FIELDS, min_count), multi, weighted)
        expected.check(table, "train", [row for row, is_dev in zip(rows, dev, strict=True) if not is_dev])
        expected.check(table, "dev", [row for row, is_dev in zip(rows, dev, strict=True) if is_dev])
        expected.check(table, "test", slow.rows_of(test.skeleton, test.common, FIELDS, multi))
