"""Rows by the values of a column."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa

from funnelcast.experiments.adapt import _parted


def seconds_of(rows: pa.Table) -> float:
    """Of this process's own work, at best of three."""
    found = []
    for _ in range(3):
        started = time.process_time()
        assert sum(len(own) for _, own in _parted(rows, "key")) == len(rows)
        found.append(time.process_time() - started)
    return min(found)


def test_rows_in_many_chunks_are_parted_about_as_fast_as_in_one() -> None:
    whole = pa.table({"key": np.arange(4000) // 2, "x": np.arange(4000)})
    chunked = pa.Table.from_batches(whole.to_batches(max_chunksize=2))
    parted = {key: own["x"].to_pylist() for key, own in _parted(chunked, "key")}
    assert parted == {str(i): [2 * i, 2 * i + 1] for i in range(2000)}
    assert seconds_of(chunked) < 8 * seconds_of(whole)  # 45 times, where each value looks at all chunks
