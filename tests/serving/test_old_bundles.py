"""A bundle that is on a user's disk predicts as when it was written, whatever changes in the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import funnelcast

HERE = Path(__file__).parent


def test_a_bundle_of_0_1_predicts_within_one_millionth() -> None:
    rows = pq.read_table(HERE / "rows_of_0_1.parquet")
    outputs = [name for name in rows.column_names if name.startswith("p_")]
    found = funnelcast.load(HERE / "bundle_of_0_1").predict(rows.drop(outputs))
    assert outputs == found.column_names == ["p_click", "p_conversion", "p_conversion_given_click"]
    for name in outputs:
        np.testing.assert_allclose(found[name].to_numpy(), rows[name].to_numpy(), rtol=0, atol=1e-6)
