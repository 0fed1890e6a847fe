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
TABLE/PART/unknown.parquet      row, and a hash of what the log had there, of rows with ids that no vocabulary knows

Shared lists are stored once, also where they are those of two parts: `table_files` says how the manifest tells.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import DTypeLike, NDArray

from funnelcast.data.columns import Columns, Ragged
from funnelcast.data.encoder import Encoder
from funnelcast.data.table_files import Files, path_of, verify
from funnelcast.errors import TableError, did_you_mean
from funnelcast.schema.dataset import FORMAT_VERSION, Schema

PARTS = ("train", "dev", "test")


class Unknown(NamedTuple):
    """The n rows of a part with ids that no vocabulary knows: id 0 in the table."""

    rows: NDArray[np.int64]
    """(n,) ascending."""
    hashes: NDArray[np.uint64]
    """(n,) of what these ids are in the log: equal where they are."""


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

    def unknown(self, name: str) -> Unknown | None:
        """The rows of a part with unknown ids; none where the table does not hold what these were, as of Ali-CCP."""
        self._require(name)
        path = self.folder / name / "unknown.parquet"
        if not path.is_file():
            return None
        rows = pq.read_table(path)
        return Unknown(rows["row"].to_numpy(), rows["hash"].to_numpy())

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
