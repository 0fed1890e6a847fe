"""The memory that training holds above the process after its imports, beside its table and the moments of that.

Pages of mapped files are not counted: the system takes them back when it needs them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.show import show

ALLOWED = 400
"""MB above the table and its moments."""
ROWS = 1 << 20


def main() -> int:
    """Prints MB by model and embedding. Exit status 1 where one holds more than is allowed."""
    parser = argparse.ArgumentParser(prog="scripts/bench memory", description=__doc__)
    parser.add_argument("--models", nargs="+", default=["man", "ple", "shared_bottom"])
    parser.add_argument("--embedding", nargs="+", type=int, default=[5, 16])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        sys.stdout.write(json.dumps(_held(args.models[0], args.embedding[0], args.workers)) + "\n")
        return 0
    rows, worst = list[tuple[str, ...]](), 0.0
    for dim in args.embedding:
        for name in args.models:
            found = _of_process(name, dim, args.workers)
            above = found["peak"] - found["imports"] - found["table"] - found["moments"]
            worst = max(worst, above)
            rows.append((name, str(dim), *(f"{value:,.0f}" for value in (*found.values(), above))))
    show(("model", "embedding", "after imports, MB", "table", "its moments", "peak", "above all these"), rows)
    return int(worst > ALLOWED)


def _of_process(name: str, dim: int, workers: int) -> dict[str, float]:
    inside = ["--models", name, "--embedding", str(dim), "--workers", str(workers), "--inside"]
    run = subprocess.run([sys.executable, "-m", "bench.memory", *inside], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(run.stdout)
    return found


def _held(name: str, dim: int, workers: int) -> dict[str, float]:
    """MB: an epoch from files, two measurements of dev rows, and checkpoints."""
    from bench.training import build, draw, rows_on_disk, trainer
    from funnelcast.training.optimizers import OptimizerConfig

    imports = _held_now()
    with tempfile.TemporaryDirectory() as folder, _watched() as highest:
        rows = rows_on_disk(Path(folder) / "rows", ROWS)
        model = build(name, dim)
        trainer(model, OptimizerConfig(), workers, Path(folder) / "run").run(rows, draw(4096, 1))
    table = sum(4 * own.weight.numel() for own in model.embedding.all_tables()) / 1e6
    return {"imports": imports, "table": table, "moments": 2 * table, "peak": highest[0]}


@contextmanager
def _watched() -> Iterator[list[float]]:
    """The most MB that were held, looked at every 5 ms."""
    highest, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            highest[0] = max(highest[0], _held_now())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield highest
    finally:
        done.set()
        watcher.join()


def _held_now() -> float:
    """MB of this process that no file lies behind."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    sys.exit(main())
