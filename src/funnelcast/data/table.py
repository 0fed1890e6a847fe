"""The prepared table: a folder with a manifest, the encoder, and memory-mapped columns per part.

TABLE/manifest.json             format, schema, protocol, rows and sha256 of every file
TABLE/encoder.json, vocabularies/
TABLE/PART/ids.bin              int32 (N, F) row-major
TABLE/PART/numeric.bin          float32 (N, M)
TABLE/PART/labels.bin           uint8 (N, T), 255 = not observed
TABLE/PART/weight.bin           float32 (N,), where the schema has a weight
TABLE/PART/FEATURE.offsets.bin  int64 (N + 1,), FEATURE.ids.bin int32, FEATURE.weights.bin float32
TABLE/PART/FEATURE.index.bin    int32 (N,), where rows share lists: row i has list index[i] of the K of offsets (K + 1,)
TABLE/PART/side.parquet         kept columns, known truth

Shared lists are stored once, also where they are those of two parts: `table_files` says how the manifest tells.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import DTypeLike, NDArray

from funnelcast.data.columns import UNOBSERVED, Columns, Ragged
from funnelcast.data.encoder import Encoder
from funnelcast.data.parquet import parquet_writer
from funnelcast.data.table_files import Files, describe, path_of, verify
from funnelcast.errors import TableError, did_you_mean
from funnelcast.schema.dataset import FORMAT_VERSION, Schema

PARTS = ("train", "dev", "test")
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
        self._lists: dict[str, tuple[int, int]] = {}  # by feature: how many were written, and their ids
        self._written, self._syncing, self._open = 0, list[Future[None]](), ExitStack()
        folder.mkdir()

    def append(self, columns: Columns, side: pa.Table | None = None) -> None:
        """Add rows with their labels; `side` has one row per row of `columns`.

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
        if side is not None and side.num_columns:
            self._side = self._side or self._open.enter_context(parquet_writer(self.folder / "side.parquet", side))
            self._side.write_table(side)
        self.rows += len(columns)

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
            self._synced()
            self._syncing = [self._disk.submit(os.fsync, file.fileno()) for file in self._files.values()]
            self._written = 0

    def _synced(self) -> None:
        """Waits for what is on its way to the disk. Raises OSError where it cannot be written."""
        waiting, self._syncing = self._syncing, []
        wait(waiting)
        for each in waiting:
            each.result()

    def label_counts(self, steps: Sequence[str]) -> dict[str, dict[str, float]]:
        """Rows in which each step was observed, and reached; `…_weight`: their weights, where the rows have some."""
        sums = {name: np.broadcast_to(count, len(steps)).tolist() for name, count in self._labels.items()}
        return {step: {name: counts[t] for name, counts in sums.items()} for t, step in enumerate(steps)}

    def close(self) -> None:
        """Every file, also where one of them cannot be written. Raises OSError then."""
        with self._open:
            self._synced()


class TableWriter:
    """Writes a table into a folder of `files.new_folder`; nothing is a table before `finish`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._parts: dict[str, PartWriter] = {}
        self._shared: dict[tuple[str, str], Sequence[str]] = {}  # by first part and feature, all parts
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

    def finish(self, encoder: Encoder, counts: dict[str, int]) -> None:
        """Write the encoder and the manifest. `counts`: what happened to rows on the way, for the summary."""
        self.close()
        encoder.save(self.folder)
        described = describe(self.folder, self._stored_as())
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


@dataclass(frozen=True)
class Table:
    """An opened table. Parts are read lazily: the test part's files are not touched before somebody asks for them."""

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: Path | str) -> Table:
        """Raises TableError when the folder is no complete table of this version."""
        folder = Path(folder)
        path = folder / "manifest.json"
        if not path.is_file():
            what = "has no manifest.json" if folder.is_dir() else "is not a folder"
            raise TableError(f"{folder} {what}, so it is no prepared table; make one with: funnelcast prepare")
        try:
            manifest = json.loads(path.read_text())
            version = manifest["format"]
        except (ValueError, KeyError, TypeError) as error:
            raise TableError(f"{path} is damaged ({error}); prepare the table again") from None
        if version != FORMAT_VERSION:
            raise TableError(
                f"{folder} has table format {version}, this version reads {FORMAT_VERSION}; prepare it again"
            )
        return cls(folder, manifest)

    @cached_property
    def encoder(self) -> Encoder:
        verify(self.folder, self._files, lambda name: "/" not in name or name.startswith("vocabularies/"))
        return Encoder.load(self.folder)

    @property
    def schema(self) -> Schema:
        return self.encoder.schema

    @property
    def protocol(self) -> dict[str, str]:
        """Name, and the fingerprint of the schema and of the rows of every part."""
        return dict(self.manifest["protocol"])

    def rows(self, part: str) -> int:
        """Rows of a part; 0 where it has none."""
        return int(self.manifest["rows"].get(part, 0))

    def label_rates(self, part: str) -> list[float]:
        """Share of reached rows among those that observed each step, by weight where rows have one; NaN without any."""
        kind = "_weight" if self.schema.weight else ""
        sums = [(c[f"reached{kind}"], c[f"observed{kind}"]) for c in self.manifest["labels"][part].values()]
        return [reached / observed if observed else math.nan for reached, observed in sums]

    def part(self, name: str) -> Columns:
        """The memory-mapped columns of `train`, `dev` or `test`, checked against the manifest's checksums.

        Raises TableError.
        """
        rows = self._require(name)
        inputs, schema = self.encoder.inputs, self.schema
        lists = schema.lists
        return Columns(
            ids=self._map(name, "ids", np.int32, (rows, len(inputs.fields))),
            numeric=self._map(name, "numeric", np.float32, (rows, len(inputs.numeric))),
            ragged={feature: self._ragged(name, feature, rows) for feature in lists},
            labels=self._map(name, "labels", np.uint8, (rows, len(schema.funnel.names))),
            weight=self._map(name, "weight", np.float32, (rows,)) if schema.weight else None,
        )

    def side(self, name: str) -> pa.Table:
        """The kept columns of a part; empty where there are none."""
        self._require(name)
        path = self.folder / name / "side.parquet"
        return pq.read_table(path) if path.is_file() else pa.table({})

    def _require(self, name: str) -> int:
        if name not in PARTS:
            raise TableError(f"{name!r} is no part of a table; {did_you_mean(name, PARTS)}")
        rows = self.rows(name)
        if not rows:
            have = [part for part in PARTS if self.rows(part)]
            raise TableError(
                f"{self.folder} has no {name} rows (it has {', '.join(have)}); prepare it with a {name} part"
            )
        verify(self.folder, self._files, lambda file: file.startswith(f"{name}/"))
        return rows

    @property
    def _files(self) -> Files:
        return dict(self.manifest["files"])

    def _ragged(self, part: str, feature: str, rows: int) -> Ragged:
        stem, files = f"{part}/{feature}", self._files
        shared, weighted = (f"{stem}.{kind}.bin" in files for kind in ("index", "weights"))
        lists = files[f"{stem}.offsets.bin"]["bytes"] // 8 if shared else rows + 1
        offsets = self._map(part, f"{feature}.offsets", np.int64, (lists,))
        total = (int(offsets[-1]),)
        return Ragged(
            offsets,
            self._map(part, f"{feature}.ids", np.int32, total),
            self._map(part, f"{feature}.weights", np.float32, total) if weighted else None,
            self._map(part, f"{feature}.index", np.int32, (rows,)) if shared else None,
        )

    def _map(self, part: str, name: str, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
        """Copy-on-write, so that torch may wrap it; the file never changes."""
        if not np.prod(shape):
            return np.empty(shape, dtype)
        path = path_of(self.folder, self._files, f"{part}/{name}.bin")
        return np.memmap(path, dtype, mode="c", shape=shape)
