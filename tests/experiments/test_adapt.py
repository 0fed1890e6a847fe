"""Rows by the values of a column."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from funnelcast.experiments.adapt import _parted


def test_rows_in_many_chunks_are_parted_as_in_one() -> None:
    whole = pa.table({"key": np.arange(4000) // 2, "x": np.arange(4000)})
    chunked = pa.Table.from_batches(whole.to_batches(max_chunksize=2))
    parted = {key: own["x"].to_pylist() for key, own in _parted(chunked, "key")}
    assert parted == {str(i): [2 * i, 2 * i + 1] for i in range(2000)}
