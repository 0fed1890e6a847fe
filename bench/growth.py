"""Rows/s of training from files of any length, also with less memory than the file has.

Each size is a process of its own that trains on the first `--most` rows of an epoch; nothing of its file is in the page
cache. With `--limit` it runs once more in a control group of so many MB, page cache included, for which it takes root.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from bench.training import RATES, build, mapped_rows, rows_on_disk
from funnelcast.ops import keep_freed_memory
from funnelcast.runtime.threads import worker_pool
from funnelcast.training.losses import LossConfig, build_loss_weights
from funnelcast.training.optimizers import OptimizerConfig
from funnelcast.training.stage_run import Plan, stage_run_of
from funnelcast.training.stages import Stage
from harness.show import say, show

GROUPS = (
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
    (Path("/sys/fs/cgroup"), "memory.max"),
)
"""Where control groups of version 1 and 2 are, and the file that limits their memory."""


def main() -> int:
    """Prints rows/s and memory by size."""
    parser = argparse.ArgumentParser(prog="scripts/bench growth", description=__doc__)
    parser.add_argument("--rows", nargs="+", type=int, default=[1_000_000, 4_000_000, 40_000_000])
    parser.add_argument("--most", type=int, default=10_000_000)
    parser.add_argument("--model", default="esmm", help="a small one, so that reading is a large part")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--limit", type=int, default=0, help="MB; 0 for no second run of the largest file")
    parser.add_argument("--folder", type=Path, help="of files that are already there")
    args = parser.parse_args()
    if args.folder is not None:
        sys.stdout.write(json.dumps(_trained(args.folder, args.rows[0], args.model, args.workers, args.most)) + "\n")
        return 0
    found = []
    for rows in args.rows:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "rows"
            rows_on_disk(folder, rows)
            os.sync()
            size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
            for limit in [0] + [args.limit] * (rows == max(args.rows) and args.limit > 0):
                rate, resident, lost = _of_process(folder, rows, args, limit)
                memory = f"{limit:,} MB" if limit else "all"
                found.append((f"{rows:,}", f"{size:,.0f}", memory, f"{rate:,.0f}", f"{resident:,.0f}", f"{lost:.1%}"))
                say(" | ".join(found[-1]))
    show(("rows", "file, MB", "memory", "rows/s", "own memory at most, MB", "waited for the disk or others"), found)
    return 0


def _of_process(folder: Path, rows: int, args: argparse.Namespace, limit: int) -> tuple[float, float, float]:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    inside = ["--folder", str(folder), "--rows", str(rows), "--most", str(args.most), "--model", args.model]
    command = [sys.executable, "-m", "bench.growth", *inside, "--workers", str(args.workers)]
    with _limited(limit) as group:

        def enter() -> None:
            if group is not None:
                (group / "cgroup.procs").write_text(str(os.getpid()))

        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, preexec_fn=enter)
    rate, resident, lost = json.loads(run.stdout)
    return rate, resident, lost


@contextmanager
def _limited(megabytes: int) -> Iterator[Path | None]:
    """A control group with so much memory; none for 0."""
    if not megabytes:
        yield None
        return
    root, name = next((root, name) for root, name in GROUPS if (root / "cgroup.procs").exists())
    group = root / f"funnelcast-{os.getpid()}"
    group.mkdir()
    try:
        (group / name).write_text(str(megabytes * 1_000_000))
        yield group
    finally:
        group.rmdir()


def _trained(folder: Path, rows: int, model: str, workers: int, most: int) -> tuple[float, float, float]:
    """Rows/s, peak MB that no file lies behind, and the share of its cores that it was without."""
    torch.set_num_threads(1)
    keep_freed_memory()
    mapped = mapped_rows(folder, rows)
    network, loss = build(model, 5), LossConfig()
    plan = Plan(loss, OptimizerConfig(), (Stage(epochs=1),), seed=0, workers=workers)
    stage_run = stage_run_of(plan.stages[0], network, build_loss_weights(loss, RATES), plan, mapped, None)
    done, started, used, own = 0, 0.0, 0.0, 0.0
    with worker_pool(workers) as pool:
        for i, batch in enumerate(stage_run.loader.epoch(0)):
            if i == 10:  # warm
                done, started, used = 0, time.perf_counter(), time.process_time()
            found = stage_run.step(batch, i, pool)
            stage_run.optimizer.step(found, pool)
            done += len(batch)
            if i % 100 == 0:
                own = max(own, _own_megabytes())
            if done >= most:
                break
    took = time.perf_counter() - started
    lost = 1 - (time.process_time() - used) / took / workers
    return done / took, own, lost


def _own_megabytes() -> float:
    """What no file lies behind."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) * 1024 / 1e6


if __name__ == "__main__":
    sys.exit(main())
