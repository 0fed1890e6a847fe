"""Ali-CCP: the raw files to a prepared table, with AITM's processing to the letter.

Pass 1 tokenizes the training file and spills provisional codes; then vocabularies are fitted; pass 2 turns codes into
ids. The test file is looked up in the fitted vocabularies. Memory depends on the distinct ids and a fixed buffer.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.columns import Columns
from funnelcast.data.datasets.aliccp.fields import wanted_fields
from funnelcast.data.datasets.aliccp.files import BLOCK_BYTES, COMMON, SKELETON, Source, is_archive
from funnelcast.data.datasets.aliccp.ids import FieldTables, final_ids
from funnelcast.data.datasets.aliccp.join import CommonFeatures, Joined, Joiner
from funnelcast.data.datasets.aliccp.rows import LineReader
from funnelcast.data.datasets.aliccp.schema import aliccp_schema, categorical_features
from funnelcast.data.datasets.aliccp.spill import Spill
from funnelcast.data.encoder import Encoder
from funnelcast.data.files import new_folder
from funnelcast.data.progress import Progress, silent
from funnelcast.data.quarantine import DEFAULT_LIMIT, Quarantine
from funnelcast.data.table import TableWriter
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.errors import DataError
from funnelcast.schema.dataset import Schema


def prepare_aliccp(
    train: Path | str,
    test: Path | str | None,
    out: Path | str,
    *,
    common_train: Path | str | None = None,
    common_test: Path | str | None = None,
    max_bad: float = DEFAULT_LIMIT,
    replace: bool = False,
    progress: Progress = silent,
    schema: Schema | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> dict[str, Any]:
    """Make the table `out` of the skeleton files, or of archives that hold them; returns its manifest.

    The common features stand beside the skeleton files where they are not given. Bad lines go to
    `OUT.quarantine.csv`. `schema`: AITM's protocol by default, else one with categorical features only.
    Raises DataError, QuarantineError, ConfigError, and FunnelcastError where `out` exists and `replace` is not set.
    """
    train, out = Path(train), Path(out)
    test, common_train, common_test = (None if p is None else Path(p) for p in (test, common_train, common_test))
    schema = schema or aliccp_schema()
    features = categorical_features(schema, test_given=test is not None)
    if test is not None and train.resolve() == test.resolve() and not is_archive(train):
        raise DataError(f"{train} is given for both train and test; give each part rows of its own")
    sources = [_sources("train", train, common_train)]
    sources += [_sources("test", test, common_test)] if test is not None else []
    for source in (source for pair in sources for source in pair):
        source.check()
    aside = out.with_name(out.name + ".quarantine.csv")
    with new_folder(out, replace=replace, mark="manifest.json") as folder, Quarantine(aside, max_bad) as quarantine:
        reader = LineReader(wanted_fields(list(features)), quarantine, progress, block_bytes)
        with TableWriter(folder) as writer:
            _Preparation(schema, reader, writer).run(*sources)
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return manifest


def default_common(skeleton: Path) -> Path:
    """The common features file of a skeleton file. Raises DataError when its name does not tell."""
    if is_archive(skeleton):
        return skeleton
    if SKELETON not in skeleton.name:
        raise DataError(
            f"{skeleton} has no {SKELETON!r} in its name, so its common features file cannot be found beside it; name "
            f"both like {SKELETON}_train.csv and {COMMON}_train.csv (in Python, give `common_train` and `common_test`)"
        )
    return skeleton.with_name(skeleton.name.replace(SKELETON, COMMON))


def dev_draws(seed: int) -> np.random.RandomState:
    """The stream of Python's `random.seed(seed)`, in numpy: `random_sample(n)` are n calls of `random.random()`."""
    _, state, _ = random.Random(seed).getstate()
    draws = np.random.RandomState()
    draws.set_state(("MT19937", np.array(state[:-1], np.uint32), state[-1], 0, 0.0))
    return draws


def _sources(part: str, skeleton: Path, common: Path | None) -> tuple[Source, Source]:
    return Source(skeleton, SKELETON, part), Source(common or default_common(skeleton), COMMON, part)


class _Preparation:
    """One run: the vocabularies that fill up on the way, and what is counted for the summary."""

    def __init__(self, schema: Schema, reader: LineReader, writer: TableWriter) -> None:
        self.schema, self.reader, self.writer = schema, reader, writer
        self.tables = FieldTables(
            [schema.vocabulary(name) for name in schema.features],
            [f.min_count for f in schema.features.values() if f.kind == "categorical"],
        )
        self.counts: dict[str, int] = {}

    def run(self, train: tuple[Source, Source], test: tuple[Source, Source] | None = None) -> None:
        with tempfile.TemporaryDirectory(prefix="spill-", dir=self.writer.folder) as scratch:
            spill = self._spill_train(*train, Path(scratch))
            vocabularies, finals = self.tables.fit()
            self._write_train(spill, finals)
            if test is not None:
                self._write_test(*test, Path(scratch), finals)
        self.writer.finish(Encoder(self.schema, vocabularies, {}), self._summary(vocabularies))

    def _spill_train(self, skeleton: Source, common: Source, scratch: Path) -> Spill:
        with Spill(scratch / "train.arrow") as spill:
            for joined in self._joined(skeleton, common, scratch, grow=True):
                self.tables.count(joined.codes)
                spill.write(joined)
        if not spill.rows:
            raise DataError(f"{skeleton.path} has no row to train on; see {self.reader.quarantine.path} for bad rows")
        return spill

    def _write_train(self, spill: Spill, finals: list[NDArray[np.int32]]) -> None:
        draws, done, began = dev_draws(self.schema.split.seed), 0, time.perf_counter()
        for joined in spill.read():
            dev = draws.random_sample(len(joined.codes)) >= 1 - self.schema.split.dev
            self._append("train", joined, np.flatnonzero(~dev), finals)
            self._append("dev", joined, np.flatnonzero(dev), finals)
            done += len(dev)
            rate = done / (time.perf_counter() - began)
            self.reader.progress("writing train", done, spill.rows, "rows", f"{rate:,.0f} rows/s")

    def _write_test(self, skeleton: Source, common: Source, scratch: Path, finals: list[NDArray[np.int32]]) -> None:
        for joined in self._joined(skeleton, common, scratch, grow=False):
            self._append("test", joined, np.arange(len(joined.codes)), finals)

    def _joined(self, skeleton: Source, common: Source, scratch: Path, *, grow: bool) -> Iterator[Joined]:
        """The kept rows of a part, block by block; `grow`: new ids get codes."""
        part, reader = skeleton.part, self.reader
        features = CommonFeatures(scratch / f"{part}.common", len(self.tables.names))
        before = reader.read
        features.read(reader.lines(common), self.tables, grow=grow)
        self.counts[f"{part} common lines read"] = reader.read - before
        self.counts[f"{part} common lines repeated"] = features.repeated
        before = reader.read
        self.counts[f"{part} broken rows"] = 0
        for joined in Joiner(self.schema, reader, self.tables).rows(skeleton, features, grow=grow):
            self.counts[f"{part} broken rows"] += joined.broken
            yield joined
        self.counts[f"{part} rows read"] = reader.read - before

    def _append(self, part: str, joined: Joined, rows: NDArray[np.int64], finals: list[NDArray[np.int32]]) -> None:
        if len(rows):
            ids = final_ids(joined.codes[rows], finals)
            columns = Columns(ids, np.empty((len(rows), 0), np.float32), labels=joined.labels[rows])
            self.writer.part(part).append(columns, joined.side.take(rows) if joined.side.num_columns else None)

    def _summary(self, vocabularies: dict[str, Vocabulary]) -> dict[str, int]:
        quarantined = {f"quarantined: {kind}": count for kind, count in sorted(self.reader.faults.items())}
        sizes = {f"vocabulary {name}": len(vocabulary) for name, vocabulary in vocabularies.items()}
        return {**self.counts, **quarantined, **sizes}
