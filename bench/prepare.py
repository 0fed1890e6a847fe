"""Preparing Ali-CCP's raw format beside a pass of Python per line, on the same generated log, process start included.

`--script`: the script that AITM's authors published, from a copy of yours; it runs beside ours on one core.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from harness.cost import cost
from harness.show import show

PARTS = ("train", "test")
ROUNDS = 5


def main() -> int:
    """Prints seconds, rows/s, how many times as fast funnelcast is on one core, and what all cores bring."""
    parser = argparse.ArgumentParser(prog="scripts/bench prepare", description=__doc__)
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--script", type=Path, help="process_public_dataset.py")
    parser.add_argument("--alone", action="store_true", help="ours alone, for more rows than Python is quick with")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cost("datasets", "generate", folder / "raw", "--rows", args.rows, "--realistic")
        for truth in (folder / "raw").glob("truth_*"):
            truth.unlink()  # which is no part of the raw format
        os.sync()  # or what was generated would be brought to the disk meanwhile
        text = sum(path.stat().st_size for path in (folder / "raw").glob("*.csv"))
        turns = [[_ours(folder, one_core=one_core) for one_core in (True, False)] for _ in range(ROUNDS)]
        names = "funnelcast, one core", f"funnelcast, {os.cpu_count()} cores"
        found = dict(zip(names, map(median, zip(*turns, strict=True)), strict=True))
        if not args.alone:
            found["a line at a time, as published"] = _by_line(folder, "--published")
            found["a line at a time, no arrays"] = _by_line(folder)
        if args.script is not None:
            found["AITM's own script"] = _script(folder, args.script.resolve())
    ours = found["funnelcast, one core"]
    rows = [
        (who, f"{took:.1f}", f"{args.rows / took:,.0f}", f"{text / took / 1e6:,.0f}", f"{took / ours:.2f}")
        for who, took in found.items()
    ]
    show((f"{args.rows:,} rows, {text / 1e6:,.0f} MB", "s", "rows/s", "MB/s", "seconds / ours on one core"), rows)
    more = median(one / all_cores for one, all_cores in turns)
    sys.stdout.write(f"\nAll cores: {more:.2f} times as fast as one, the median of {ROUNDS} turns.\n")
    return 0


def _ours(folder: Path, *, one_core: bool) -> float:
    files = [f"--{part}={folder}/raw/sample_skeleton_{part}.csv" for part in PARTS]
    took = cost("prepare", "ali-ccp", *files, "--out", folder / "table", one_core=one_core)
    shutil.rmtree(folder / "table")
    return took.seconds


def _by_line(folder: Path, *how: str) -> float:
    out = folder / "by-line"
    took = _seconds([sys.executable, "-m", "bench.peers.by_line", str(folder / "raw"), str(out), *how], Path.cwd())
    shutil.rmtree(out)
    return took


def _script(folder: Path, script: Path) -> float:
    """It reads and writes in `data` below the folder that it runs in."""
    data = folder / "script" / "data"
    data.mkdir(parents=True)
    for kind in ("sample_skeleton", "common_features"):
        for part in PARTS:
            (data / f"{kind}_{part}.csv").symlink_to(folder / "raw" / f"{kind}_{part}.csv")
    return _seconds([sys.executable, str(script)], data.parent)


def _seconds(command: list[str], folder: Path) -> float:
    """On one core, as Python is."""
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
