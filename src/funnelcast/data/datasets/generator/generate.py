"""Logs in Ali-CCP's raw format whose process is known, of any size at constant memory; `process` says what it is."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from funnelcast.data.datasets.generator import process
from funnelcast.data.datasets.generator.blocks import Block, Generator
from funnelcast.data.datasets.generator.config import PARTS, REALISTIC, GeneratorConfig
from funnelcast.data.datasets.generator.text import common_text, skeleton_text
from funnelcast.data.datasets.generator.world import entity_counts
from funnelcast.data.files import new_folder
from funnelcast.data.progress import Progress, silent

__all__ = ["REALISTIC", "Counts", "GeneratorConfig", "Summary", "generate", "write_log"]

VERSION = 1
"""Grows when the same settings give other files."""
_TRUTH = pa.schema([("sample_id", pa.string()), ("p_click", pa.float64()), ("p_conversion_given_click", pa.float64())])


@dataclass
class Counts:
    """What a part came out as."""

    rows: int = 0
    lists: int = 0
    clicks: int = 0
    conversions: int = 0
    broken: int = 0

    @property
    def click_rate(self) -> float:
        return self.clicks / self.rows

    @property
    def conversion_rate(self) -> float:
        """Conversions per click; NaN without a click."""
        return self.conversions / self.clicks if self.clicks else math.nan

    def add(self, block: Block) -> None:
        click, conversion = block.labels.T
        self.rows += len(click)
        self.lists += len(block.keys)
        self.clicks += int(click.sum())
        self.conversions += int((click & conversion).sum())
        self.broken += int((conversion > click).sum())


class Summary(NamedTuple):
    """What `generate` wrote."""

    path: Path
    config: GeneratorConfig
    train: Counts
    test: Counts


def generate(
    out: Path | str,
    rows: int = 300_000,
    *,
    seed: int = 0,
    click_rate: float = 0.04,
    conversion_rate: float = 0.20,
    test_share: float = 1 / 3,
    realistic: bool = False,
    replace: bool = False,
    progress: Progress = silent,
) -> Summary:
    """Write a log of so many impressions into the new folder `out`; see `write_log`. `realistic`: Ali-CCP's own rates
    instead of those given."""
    rates = REALISTIC if realistic else {"click_rate": click_rate, "conversion_rate": conversion_rate}
    config = GeneratorConfig.from_dict({"rows": rows, "seed": seed, "test_share": test_share, **rates})
    return write_log(Path(out), config, replace=replace, progress=progress)


def write_log(out: Path, config: GeneratorConfig, *, replace: bool = False, progress: Progress = silent) -> Summary:
    """Write skeletons, common features, truth, README.txt and generator.json into the new folder `out`, whole or not
    at all. Raises ConfigError for settings out of range, FunnelcastError when `out` exists and `replace` is not set.
    """
    with new_folder(out, replace=replace, mark="generator.json") as folder:
        generator = Generator(config)
        counts = {part: _write_part(folder, generator, part, progress) for part in PARTS}
        (folder / "generator.json").write_text(_described(generator, counts))
        (folder / "README.txt").write_text(_readme(counts))
    return Summary(out, config, **counts)


def _write_part(folder: Path, generator: Generator, part: str, progress: Progress) -> Counts:
    counts, rows = Counts(), generator.config.rows_of(part)
    with (
        (folder / f"sample_skeleton_{part}.csv").open("wb") as skeleton,
        (folder / f"common_features_{part}.csv").open("wb") as common,
        pq.ParquetWriter(folder / f"truth_{part}.parquet", _TRUTH) as truth,
    ):
        for block in generator.blocks(part):
            first = counts.rows + 1
            skeleton.write(skeleton_text(block.skeleton, block.labels, block.list_of, block.keys, first))
            common.write(common_text(block.common, block.keys))
            truth.write_batch(_truth(block, first))
            counts.add(block)
            progress(f"generate {part}", counts.rows, rows, "rows")
    return counts


def _truth(block: Block, first: int) -> pa.RecordBatch:
    sample_id = pa.array(np.arange(first, first + len(block.truth))).cast(pa.string())
    return pa.record_batch([sample_id, *block.truth.T.copy()], schema=_TRUTH)


def _described(generator: Generator, counts: dict[str, Counts]) -> str:
    parts = {
        part: {**asdict(c), "click_rate": c.click_rate, "conversion_rate": c.conversion_rate if c.clicks else None}
        for part, c in counts.items()
    }
    described = {
        "version": VERSION,
        "settings": generator.config.model_dump(),
        "intercepts": dict(zip(("click", "conversion_given_click"), generator.intercepts, strict=True)),
        "entities": entity_counts(generator.world),
        **parts,
    }
    return json.dumps(described, indent=1) + "\n"


def _readme(counts: dict[str, Counts]) -> str:
    lines = ["A generated log in Ali-CCP's raw format.", "", str(process.__doc__), "Settings: generator.json has all."]
    lines += [
        f"{part}: {c.rows:,} rows in {c.lists:,} lists, {c.clicks:,} clicks, {c.conversions:,} conversions after one"
        for part, c in counts.items()
    ]
    lines.append("truth_PART.parquet has the true probabilities of every row of the skeleton, in its order.")
    return "\n".join(lines) + "\n"
