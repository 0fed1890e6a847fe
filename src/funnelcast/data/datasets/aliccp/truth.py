"""The true probabilities of generated rows, where they stand beside the skeleton file, row by row."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from funnelcast.data.datasets.aliccp.files import Source
from funnelcast.errors import DataError

COLUMNS = {"p_click": "true_p_click", "p_conversion_given_click": "true_p_conversion_given_click"}
_ROWS = 65536


class Truth:
    """`truth_PART.parquet` read in step with the skeleton file; memory holds a batch of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = pq.ParquetFile(path, pre_buffer=False)  # which would keep all that was read
        missing = [name for name in ("sample_id", *COLUMNS) if name not in self._file.schema_arrow.names]
        if missing:
            raise DataError(f"{path} lacks the columns {', '.join(missing)}; generate it again, or move it away")
        self._batches = self._file.iter_batches(_ROWS, columns=["sample_id", *COLUMNS])
        self._rest = pa.Table.from_batches([], self._file.schema_arrow).select(["sample_id", *COLUMNS])

    @classmethod
    def next_to(cls, skeleton: Source) -> Truth | None:
        """The truth of a skeleton file, None where it has none."""
        path = skeleton.path.with_name(f"truth_{skeleton.part}.parquet")
        return cls(path) if path.is_file() else None

    def take(self, rows: int) -> pa.Table:
        """The next `rows` rows. Raises DataError when the file ends before."""
        parts = [self._rest]
        have = len(self._rest)
        while have < rows:
            batch = next(self._batches, None)
            if batch is None:
                raise self._differs("it has fewer rows than the skeleton file")
            parts.append(pa.Table.from_batches([batch]))
            have += len(batch)
        table = pa.concat_tables(parts)
        self._rest = table.slice(rows)
        return table.slice(0, rows)

    def side(self, rows: pa.Table, sample_ids: pa.Array) -> dict[str, pa.ChunkedArray]:
        """The columns of `rows`, whose sample ids must be the given ones. Raises DataError."""
        same = pa.compute.equal(rows["sample_id"].cast(pa.string()), sample_ids)
        if not pa.compute.all(same, min_count=0).as_py():
            row = pa.compute.index(same, False).as_py()
            raise self._differs(f"it has sample_id {rows['sample_id'][row]} for {sample_ids[row]}")
        return {name: rows[column] for column, name in COLUMNS.items()}

    def finish(self) -> None:
        """Raises DataError when rows are left over."""
        if len(self._rest) or next(self._batches, None) is not None:
            raise self._differs("it has more rows than the skeleton file")

    def _differs(self, how: str) -> DataError:
        return DataError(
            f"{self.path} does not belong to the skeleton file beside it: {how}; generate both again, or move it away"
        )
