"""Writing a prepared table: columns appended to files, which go to the disk while more is made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import DTypeLike, NDArray

from funnelcast.data.arrow import array_of
from funnelcast.data.columns import UNOBSERVED, Columns, Ragged
from funnelcast.data.encoder import Encoder
from funnelcast.data.files import Checksum, sync_file
from funnelcast.data.parquet import parquet_writer
from funnelcast.data.table_files import describe
from funnelcast.data.unknown_values import Hashes
from funnelcast.schema.dataset import FORMAT_VERSION

AT_A_TIME = 64 << 20
"""Bytes that go to the disk while more is written, so that the wait at the end is short."""


class PartWriter:
    """Appends encoded rows to one part of a table that is being written."""

    def __init__(self, folder: Path, disk: Executor) -> None:
        """`disk`: a thread that brings to the disk what was written."""
        self.folder, self._disk = folder, disk
        self.rows = 0
        self._labels: dict[str, NDArray[Any] | int] = {}  # sums over the rows, per step (T,)
        self._files: dict[str, Any] = {}
        self._side: pq.ParquetWriter | None = None
        self._unknown: pq.ParquetWriter | None = None
        self._lists: dict[str, tuple[int, int]] = {}  # by feature: how many were written, and their ids
        self._sums: dict[Path, Checksum] = {}
        self._storing: Future[Any] | None = None
        self._written, self._open = 0, ExitStack()
        folder.mkdir()

    def append(self, columns: Columns, side: pa.Table | None = None, unknown: Hashes | None = None) -> None:
        """Add rows with their labels; `side` has one row per row of `columns`. `unknown`: (N,) hashes of the ids that
        no vocabulary knows, 0 for rows without one.

        Of a `Ragged` with an index the index alone is written: its lists are those given to `TableWriter.share`.
        """
        self._write("ids", columns.ids, np.int32)
        self._write("numeric", columns.numeric, np.float32)
        self._write("labels", columns.labels, np.uint8)
        if columns.weight is not None:
            self._write("weight", columns.weight, np.float32)
        self._count_labels(columns)
        for name, ragged in columns.ragged.items():
            if ragged.index is None:
                self.add_lists(name, ragged)
            else:
                self._write(f"{name}.index", ragged.index, np.int32)
        if side is not None:
            self.append_side(side)
        if unknown is not None:
            self._append_unknown(unknown)
        self.rows += len(columns)

    def append_side(self, side: pa.Table) -> None:
        """The kept columns of rows that were appended without them; another thread may append others meanwhile."""
        if side.num_columns:
            self._side = self._side or self._open.enter_context(parquet_writer(self.folder / "side.parquet", side))
            self._side.write_table(side)

    def _append_unknown(self, hashes: Hashes) -> None:
        found = np.flatnonzero(hashes)
        rows = pa.table({"row": array_of(found + self.rows), "hash": array_of(hashes[found])})
        if self._unknown is None:
            file = pq.ParquetWriter(self.folder / "unknown.parquet", rows.schema, use_dictionary=False)
            self._unknown = self._open.enter_context(file)
        if len(found):
            self._unknown.write_table(rows)

    def _count_labels(self, columns: Columns) -> None:
        assert columns.labels is not None
        steps = np.ascontiguousarray(columns.labels.T)  # a sum over rows of a few steps takes 20 times as long
        masks = {"observed": steps != UNOBSERVED, "reached": steps == 1}
        counts = {name: np.count_nonzero(mask, axis=1) for name, mask in masks.items()}
        if columns.weight is not None:
            weight = columns.weight.astype(np.float64)
            counts |= {f"{name}_weight": mask @ weight for name, mask in masks.items()}
        self._labels = {name: self._labels.get(name, 0) + count for name, count in counts.items()}

    def add_lists(self, name: str, lists: Ragged) -> int:
        """Add lists of a feature; returns the place of the first one of these among all of them."""
        first, end = self._lists.get(name, (0, 0))
        offsets = lists.offsets + end
        self._write(f"{name}.offsets", offsets[1:] if name in self._lists else offsets, np.int64)
        self._write(f"{name}.ids", lists.ids, np.int32)
        if lists.weights is not None:
            self._write(f"{name}.weights", lists.weights, np.float32)
        self._lists[name] = (first + len(lists), int(offsets[-1]))
        return first

    def _write(self, name: str, values: NDArray[Any] | None, dtype: DTypeLike) -> None:
        if name not in self._files:
            self._files[name] = self._open.enter_context((self.folder / f"{name}.bin").open("wb"))
        self._written += self._files[name].write(np.ascontiguousarray(values, dtype).data)
        if self._written >= AT_A_TIME:
            self._stored()
            self._storing, self._written = self._disk.submit(self._store), 0

    def _store(self) -> dict[Path, str]:
        """Brings what was written to the disk, and takes it into the checksums of the files, which it returns."""
        sums = {}
        for path in self.folder.iterdir():
            sync_file(path)
            sums[path] = self._sums.setdefault(path, Checksum(path)).follow()
        return sums

    def _stored(self) -> None:
        """Waits for what is on its way to the disk. Raises OSError where it cannot be written."""
        storing, self._storing = self._storing, None
        if storing is not None:
            storing.result()

    def label_counts(self, steps: Sequence[str]) -> dict[str, dict[str, float]]:
        """Rows in which each step was observed, and reached; `…_weight`: their weights, where the rows have some."""
        sums = {name: np.broadcast_to(count, len(steps)).tolist() for name, count in self._labels.items()}
        return {step: {name: counts[t] for name, counts in sums.items()} for t, step in enumerate(steps)}

    def close(self) -> None:
        """Every file, also where one of them cannot be written. Raises OSError then."""
        with self._open:
            self._stored()

    def end(self) -> Future[dict[Path, str]]:
        """Nothing more comes: close every file, and begin to store what is left. Returns the checksums to come."""
        self.close()
        return self._disk.submit(self._store)


class TableWriter:
    """Writes a table into a folder of `files.new_folder`; nothing is a table before `finish`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._parts: dict[str, PartWriter] = {}
        self._shared: dict[tuple[str, str], Sequence[str]] = {}  # by first part and feature, all parts
        self._sums: dict[str, Future[dict[Path, str]]] = {}  # by part, of those that have ended
        self._disk = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def part(self, name: str) -> PartWriter:
        if name not in self._parts:
            self._parts[name] = PartWriter(self.folder / name, self._disk)
        return self._parts[name]

    def share(self, parts: Sequence[str], feature: str, lists: Ragged) -> int:
        """Add lists that rows of `parts` refer to by their place, and return that of the first one of these.

        They are stored once, in the folder of the first part.
        """
        self._shared[parts[0], feature] = parts
        return self.part(parts[0]).add_lists(feature, lists)

    def end(self, parts: Sequence[str]) -> None:
        """Nothing more comes to these: what is left of them is stored while others are written."""
        for name in parts:
            if name in self._parts:
                self._sums[name] = self._parts[name].end()

    def finish(self, encoder: Encoder, counts: dict[str, int]) -> None:
        """Write the encoder and the manifest. `counts`: what happened to rows on the way, for the summary."""
        self.end(list(self._parts))
        encoder.save(self.folder)
        known = {path: checksum for sums in self._sums.values() for path, checksum in sums.result().items()}
        described = describe(self.folder, self._stored_as(), known)
        columns = [str(file["sha256"]) for name, file in described.items() if name.endswith(".bin")]
        manifest = {
            "format": FORMAT_VERSION,
            "protocol": {"name": encoder.schema.name, "fingerprint": encoder.schema.fingerprint(columns)},
            "rows": {name: part.rows for name, part in self._parts.items()},
            "labels": {name: part.label_counts(encoder.schema.funnel.names) for name, part in self._parts.items()},
            "counts": counts,
            "files": described,
        }
        (self.folder / "manifest.json").write_text(json.dumps(manifest, indent=1))

    def _stored_as(self) -> dict[str, str]:
        """The files whose content is another's, by which: the lists that a part shares with the first one."""
        return {
            f"{part}/{feature}.{kind}.bin": f"{first}/{feature}.{kind}.bin"
            for (first, feature), parts in self._shared.items()
            for part, kind in product(parts[1:], ("offsets", "ids", "weights"))
            if part in self._parts
        }

    def close(self) -> None:
        """Close every file; `finish` does it, and a run that fails before."""
        with ExitStack() as stack:
            stack.callback(self._disk.shutdown)
            for part in self._parts.values():
                stack.callback(part.close)
