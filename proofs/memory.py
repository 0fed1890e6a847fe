"""Rows/s and memory of preparing Ali-CCP's raw format on one core, at the published shape and rates."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from itertools import islice
from pathlib import Path
from statistics import mean

from harness.cost import Cost, cost
from harness.show import show

RATE = 120_000
"""Rows/s that preparing reaches at least."""
RESIDENT = 1.2e9
"""Bytes that it holds at most, at any number of rows."""
DISK = 700
"""Bytes per row of raw text, spilled codes and table, at most."""


def memory(small: bool = False, rows: int = 2_000_000, full: bool = False) -> bool:
    """Preparing 2,000,000 generated rows on one core: at least 120,000 rows/s, under 1.2 GB (200,000, memory only)."""
    rows, protocol = min(rows, 200_000) if small else rows, "ali-ccp-full" if full else "ali-ccp"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _check_disk(folder, rows)
        raw, table = folder / "raw", folder / "table"
        made = cost("datasets", "generate", raw, "--rows", rows, "--realistic")
        files = [f"--{part}={raw / f'sample_skeleton_{part}.csv'}" for part in ("train", "test")]
        prepared = cost("prepare", protocol, *files, "--out", table, one_core=True)
        text, kept = _bytes(raw, "*.csv"), _bytes(table, "**/*")
        shape = _shape(raw)
    limits = f"< {RESIDENT / 1e6:,.0f} MB" + ("" if small else f", >= {RATE:,} rows/s")
    head = ("step", "rows", "s", "rows/s", "raw text MB/s", "peak MB", "limits")
    show(
        head,
        [_row("generate", rows, made, text, ""), _row(f"prepare {protocol}, one core", rows, prepared, text, limits)],
    )
    shown = ("raw text, MB", "table, MB", "rows a common index", "features a common line")
    show(shown, [(f"{text / 1e6:,.0f}", f"{kept / 1e6:,.0f}", *shape)])
    return prepared.resident < RESIDENT and (small or rows / prepared.seconds >= RATE)


def _check_disk(folder: Path, rows: int) -> None:
    free, needed = shutil.disk_usage(folder).free, rows * DISK
    if free < needed:
        sys.exit(
            f"{folder} has {free / 1e9:.1f} GB free and {rows:,} rows need {needed / 1e9:.1f} GB; set TMPDIR to a "
            "larger disk, or give fewer --rows"
        )


def _bytes(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(pattern) if path.is_file())


def _shape(raw: Path) -> tuple[str, str]:
    """Means over the train part, and over its first 1,000 common lines."""
    train = json.loads((raw / "generator.json").read_text())["train"]
    with (raw / "common_features_train.csv").open("rb") as lines:
        features = [int(line.split(b",")[1]) for line in islice(lines, 1000)]
    return f"{train['rows'] / train['lists']:.0f}", f"{mean(features):.0f}"


def _row(step: str, rows: int, took: Cost, text: int, limits: str) -> tuple[str, ...]:
    rates = (f"{rows / took.seconds:,.0f}", f"{text / took.seconds / 1e6:,.0f}")
    return step, f"{rows:,}", f"{took.seconds:.1f}", *rates, f"{took.resident / 1e6:,.0f}", limits
