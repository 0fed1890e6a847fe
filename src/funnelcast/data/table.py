"""The prepared table: a folder with a manifest, the encoder, and memory-mapped columns per part.

TABLE/manifest.json             format, schema, protocol, rows and sha256 of every file
TABLE/encoder.json, vocabularies/
TABLE/PART/ids.bin              int32 (N, F) row-major
TABLE/PART/numeric.bin          float32 (N, M)
TABLE/PART/labels.bin           uint8 (N, T), 255 = not observed
TABLE/PART/weight.bin           float32 (N,), where the schema has a weight
TABLE/PART/FEATURE.offsets.bin  int64 (N + 1,), FEATURE.ids.bin int32, FEATURE.weights.bin float32
TABLE/PART/side.parquet         kept columns, known truth
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import DTypeLike, NDArray

from funnelcast.data.columns import UNOBSERVED, Columns, Ragged
from funnelcast.data.encoder import Encoder
from funnelcast.data.files import sha256
from funnelcast.errors import TableError, did_you_mean
from funnelcast.schema.dataset import FORMAT_VERSION, Schema

PARTS = ("train", "dev", "test")


class PartWriter:
    """Appends encoded rows to one part of a table that is being written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = 0
        self._labels: dict[str, NDArray[Any] | int] = {}  # sums over the rows, per step (T,)
        self._files: dict[str, Any] = {}
        self._side: pq.ParquetWriter | None = None
        self._ends: dict[str, int] = {}
        folder.mkdir()

    def append(self, columns: Columns, side: pa.Table | None = None) -> None:
        """Add rows with their labels; `side` has one row per row of `columns`."""
        self._write("ids", columns.ids, np.int32)
        self._write("numeric", columns.numeric, np.float32)
        self._write("labels", columns.labels, np.uint8)
        if columns.weight is not None:
            self._write("weight", columns.weight, np.float32)
        self._count_labels(columns)
        for name, ragged in columns.ragged.items():
            self._write_ragged(name, ragged)
        if side is not None and side.num_columns:
            self._side = self._side or pq.ParquetWriter(self.folder / "side.parquet", side.schema)
            self._side.write_table(side)
        self.rows += len(columns)

    def _count_labels(self, columns: Columns) -> None:
        assert columns.labels is not None
        masks = {"observed": columns.labels != UNOBSERVED, "reached": columns.labels == 1}
        counts = {name: mask.sum(0) for name, mask in masks.items()}
        if columns.weight is not None:
            weight = columns.weight.astype(np.float64)
            counts |= {f"{name}_weight": weight @ mask for name, mask in masks.items()}
        self._labels = {name: self._labels.get(name, 0) + count for name, count in counts.items()}

    def _write_ragged(self, name: str, ragged: Ragged) -> None:
        end = self._ends.get(name, 0)
        offsets = ragged.offsets + end
        self._write(f"{name}.offsets", offsets if name not in self._ends else offsets[1:], np.int64)
        self._write(f"{name}.ids", ragged.ids, np.int32)
        if ragged.weights is not None:
            self._write(f"{name}.weights", ragged.weights, np.float32)
        self._ends[name] = int(offsets[-1])

    def _write(self, name: str, values: NDArray[Any] | None, dtype: DTypeLike) -> None:
        if name not in self._files:
            self._files[name] = (self.folder / f"{name}.bin").open("wb")
        self._files[name].write(np.ascontiguousarray(values, dtype).data)

    def label_counts(self, steps: Sequence[str]) -> dict[str, dict[str, float]]:
        """Rows in which each step was observed, and reached; `…_weight`: their weights, where the rows have some."""
        sums = {name: np.broadcast_to(count, len(steps)).tolist() for name, count in self._labels.items()}
        return {step: {name: counts[t] for name, counts in sums.items()} for t, step in enumerate(steps)}

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        if self._side is not None:
            self._side.close()


class TableWriter:
    """Writes a table into a folder of `files.new_folder`; nothing is a table before `finish`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._parts: dict[str, PartWriter] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def part(self, name: str) -> PartWriter:
        if name not in self._parts:
            self._parts[name] = PartWriter(self.folder / name)
        return self._parts[name]

    def finish(self, encoder: Encoder, counts: dict[str, int]) -> None:
        """Write the encoder and the manifest. `counts`: what happened to rows on the way, for the summary."""
        self.close()
        encoder.save(self.folder)
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        described = {
            path.relative_to(self.folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
            for path in files
        }
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

    def close(self) -> None:
        """Close every file; `finish` does it, and a run that fails before."""
        for part in self._parts.values():
            part.close()


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
        self._verify(lambda name: "/" not in name or name.startswith("vocabularies/"))
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
        self._verify(lambda file: file.startswith(f"{name}/"))
        return rows

    def _verify(self, chosen: Any) -> None:
        for name, expected in self.manifest["files"].items():
            path = self.folder / name
            if not chosen(name):
                continue
            if not path.is_file() or path.stat().st_size != expected["bytes"] or sha256(path) != expected["sha256"]:
                raise TableError(f"{path} is missing or differs from its checksum; prepare the table again")

    def _ragged(self, part: str, feature: str, rows: int) -> Ragged:
        weighted = (self.folder / part / f"{feature}.weights.bin").is_file()
        offsets = self._map(part, f"{feature}.offsets", np.int64, (rows + 1,))
        total = (int(offsets[-1]),)
        weights = self._map(part, f"{feature}.weights", np.float32, total) if weighted else None
        return Ragged(offsets, self._map(part, f"{feature}.ids", np.int32, total), weights)

    def _map(self, part: str, name: str, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
        """Copy-on-write, so that torch may wrap it; the file never changes."""
        if not np.prod(shape):
            return np.empty(shape, dtype)
        return np.memmap(self.folder / part / f"{name}.bin", dtype, mode="c", shape=shape)
