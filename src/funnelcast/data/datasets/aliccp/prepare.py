"""Ali-CCP: the raw files to a prepared table, for single-valued fields with AITM's processing to the letter.

Pass 1 tokenizes the training file and spills provisional codes; then vocabularies are fitted; pass 2 turns codes into
ids. The test file is looked up in the fitted vocabularies. Memory depends on the distinct ids, the number of common
lines and a fixed buffer.

`min_count` counts occurrences in joined rows of the training file, those that become dev included: an id in a common
line counts once for each kept row that refers to the line.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from funnelcast.data.datasets.aliccp.codes import FieldTables, Fitted
from funnelcast.data.datasets.aliccp.common_features import CommonFeatures
from funnelcast.data.datasets.aliccp.fields import wanted_fields
from funnelcast.data.datasets.aliccp.files import BLOCK_BYTES, COMMON, SKELETON, Source, is_archive
from funnelcast.data.datasets.aliccp.join import Joined, Joiner
from funnelcast.data.datasets.aliccp.rows import LineReader, at_once
from funnelcast.data.datasets.aliccp.schema import aliccp_schema, check
from funnelcast.data.datasets.aliccp.spill import Spill
from funnelcast.data.datasets.aliccp.write import Encoded, PartRows, RowWriter
from funnelcast.data.encoder import Encoder
from funnelcast.data.files import new_folder
from funnelcast.data.in_order import in_order
from funnelcast.data.progress import Progress, silent
from funnelcast.data.quarantine import DEFAULT_LIMIT, Quarantine
from funnelcast.data.table_writer import TableWriter
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.errors import DataError
from funnelcast.schema.dataset import Schema
from funnelcast.schema.features import Categorical, MultiValued

TRAINING: Final = ("train", "dev")
"""The parts that the training file becomes."""


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
    schema: Schema | str = "aliccp-aitm",
    block_bytes: int = BLOCK_BYTES,
) -> dict[str, Any]:
    """Make the table `out` of the skeleton files, or of archives that hold them; returns its manifest.

    The common features stand beside the skeleton files where they are not given. Bad lines go to
    `OUT.quarantine.csv`. `schema`: the name of a built-in one, `aliccp-aitm` or `aliccp-full`, or one of your own with
    categorical and multi-valued features.
    Raises DataError, QuarantineError, ConfigError, and FunnelcastError where `out` exists and `replace` is not set.
    """
    train, out = Path(train), Path(out)
    test, common_train, common_test = (None if p is None else Path(p) for p in (test, common_train, common_test))
    schema = aliccp_schema(schema) if isinstance(schema, str) else schema
    check(schema, test_given=test is not None)
    if test is not None and train.resolve() == test.resolve() and not is_archive(train):
        raise DataError(f"{train} is given for both train and test; give each part rows of its own")
    sources = [_sources("train", train, common_train)]
    sources += [_sources("test", test, common_test)] if test is not None else []
    for source in (source for pair in sources for source in pair):
        source.check()
    aside = out.with_name(out.name + ".quarantine.csv")
    with new_folder(out, replace=replace, mark="manifest.json") as folder, Quarantine(aside, max_bad) as quarantine:
        fields = wanted_fields(*([schema.column(name) for name in features] for features in _by_kind(schema)))
        reader = LineReader(fields, quarantine, progress, block_bytes)
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
        single, self.multi = _by_kind(schema)
        self.tables = FieldTables(
            [schema.vocabulary(name) for name in single],
            [schema.vocabulary(name) for name in self.multi],
            {schema.vocabulary(name): feature.min_count for name, feature in {**single, **self.multi}.items()},
        )
        self.counts: dict[str, int] = {}

    def run(self, train: tuple[Source, Source], test: tuple[Source, Source] | None = None) -> None:
        with self._scratch() as scratch:
            fitted = self._train(*train, scratch)
        if test is not None:
            with self._scratch() as scratch:
                self._test(*test, scratch, fitted)
        self.writer.finish(Encoder(self.schema, fitted.vocabularies, {}), self._summary(fitted.vocabularies))

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="spill-", dir=self.writer.folder) as folder:
            yield Path(folder)

    def _train(self, skeleton: Source, source: Source, scratch: Path) -> Fitted:
        common = self._read_common(source, scratch, grow=True)
        with Spill(scratch / "rows.arrow") as spill:

            def kept(joined: Joined) -> None:
                self.tables.count(joined.codes, joined.lists)
                common.refer(joined.indices, joined.lists)
                spill.write(joined)

            self._read(skeleton, common, kept, grow=True)
        if not spill.rows:
            raise DataError(f"{skeleton.path} has no row to train on; see {self.reader.quarantine.path} for bad rows")
        common.count(self.tables)
        fitted = self.tables.fit()
        self._write(spill, self._row_writer(TRAINING, fitted, common))
        self.writer.end(TRAINING)
        return fitted

    def _write(self, spill: Spill, rows: RowWriter) -> None:
        done, began = 0, time.perf_counter()

        def append_sides(block: list[Encoded]) -> None:
            nonlocal done
            for each in block:
                rows.append_side(each)
                done += len(each.columns)
            rate = done / (time.perf_counter() - began)
            self.reader.progress("writing train", done, spill.rows, "rows", f"{rate:,.0f} rows/s")

        def encoded(parts: tuple[PartRows, PartRows]) -> list[Encoded]:
            return [rows.encoded(own) for own in parts]

        def append(block: list[Encoded]) -> list[Encoded]:
            return [rows.append(each) for each in block]

        in_order(at_once(), self._split(spill), encoded, append, append_sides)

    def _split(self, spill: Spill) -> Iterator[tuple[PartRows, PartRows]]:
        """Of each block the rows of train and of dev."""
        draws = dev_draws(self.schema.split.seed)
        for joined in spill.read():
            dev = draws.random_sample(len(joined.codes)) >= 1 - self.schema.split.dev
            yield PartRows("train", joined, np.flatnonzero(~dev)), PartRows("dev", joined, np.flatnonzero(dev))

    def _test(self, skeleton: Source, source: Source, scratch: Path, fitted: Fitted) -> None:
        common = self._read_common(source, scratch, grow=False)
        rows = self._row_writer(("test",), fitted, common)

        def encoded(joined: Joined) -> Encoded:
            return rows.encoded(PartRows("test", joined, np.arange(len(joined.codes))))

        self._read(skeleton, common, encoded, rows.append, rows.append_side, grow=False)

    def _row_writer(self, parts: Sequence[str], fitted: Fitted, common: CommonFeatures) -> RowWriter:
        weighted = {name: feature.weights is not None for name, feature in self.multi.items()}
        return RowWriter(self.writer, parts, weighted, fitted, common)

    def _read_common(self, source: Source, scratch: Path, *, grow: bool) -> CommonFeatures:
        """The common features of a part; `grow`: new ids get codes."""
        reader, before = self.reader, self.reader.read
        common = CommonFeatures(scratch / "common", len(self.tables.single), len(self.tables.multi))
        common.read(reader, source, self.tables, grow=grow)
        self.counts[f"{source.part} common lines read"] = reader.read - before
        self.counts[f"{source.part} common lines repeated"] = common.repeated
        return common

    def _read(self, skeleton: Source, common: CommonFeatures, *then: Callable[[Any], Any], grow: bool) -> None:
        """Hand the kept rows of a part, block by block, to `then`; `grow`: new ids get codes."""
        part, before = skeleton.part, self.reader.read
        self.counts[f"{part} broken rows"] = 0

        def counted(joined: Joined) -> Joined:
            self.counts[f"{part} broken rows"] += joined.inconsistent
            return joined

        Joiner(self.schema, self.tables, skeleton, common, grow).read(self.reader, counted, *then)
        self.counts[f"{part} rows read"] = self.reader.read - before

    def _summary(self, vocabularies: dict[str, Vocabulary]) -> dict[str, int]:
        quarantined = {f"quarantined: {kind}": count for kind, count in sorted(self.reader.faults.items())}
        sizes = {f"vocabulary {name}": len(vocabulary) for name, vocabulary in vocabularies.items()}
        return {**self.counts, **quarantined, **sizes}


def _by_kind(schema: Schema) -> tuple[dict[str, Categorical], dict[str, MultiValued]]:
    """The single-valued and the multi-valued features by name."""
    single = {name: feature for name, feature in schema.features.items() if feature.kind == "categorical"}
    return single, {name: feature for name, feature in schema.features.items() if feature.kind == "multi"}
