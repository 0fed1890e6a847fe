"""The truth of a generated log is read in step with it, and let go of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from funnelcast.data.datasets.aliccp.truth import Truth

ROWS = 1_000_000


def test_memory_holds_a_batch_of_it(tmp_path: Path) -> None:
    chances = np.random.default_rng(0).random((2, ROWS))
    table = pa.table([np.arange(ROWS), *chances], ["sample_id", "p_click", "p_conversion_given_click"])
    pq.write_table(table, tmp_path / "truth_train.parquet", row_group_size=20_000)
    del table
    truth, before = Truth(tmp_path / "truth_train.parquet"), pa.total_allocated_bytes()
    for start in range(0, ROWS, 50_000):
        assert truth.take(50_000)["p_click"].to_numpy()[0] == chances[0, start]
        assert pa.total_allocated_bytes() - before < 5e6
    truth.finish()
