"""Dictionaries of Parquet files are for columns whose values repeat."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from funnelcast.data.parquet import parquet_writer


def test_only_columns_whose_values_repeat_have_dictionaries(tmp_path: Path) -> None:
    rows = pa.table(
        {
            "row": [f"r{i}" for i in range(100)],
            "campaign": [f"c{i % 25}" for i in range(100)],
            "hour": [i % 24 for i in range(100)],
            "p": [0.5] * 100,
            "tags": [[1, 1]] * 100,
        }
    )
    with parquet_writer(tmp_path / "rows.parquet", rows) as writer:
        writer.write_table(rows)
    group = pq.ParquetFile(tmp_path / "rows.parquet").metadata.row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    with_dictionary = {c.path_in_schema for c in columns if c.has_dictionary_page}
    assert with_dictionary == {"campaign", "hour"}
    assert pq.ParquetFile(tmp_path / "rows.parquet").read().equals(rows)
