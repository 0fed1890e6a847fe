"""An exact AUC with its interval, and a paired difference of two, beside one sort of as many scores; on one core."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np

from funnelcast.evaluation.auc import auc_difference, auc_interval
from harness.show import show

ROUNDS = 3
POSITIVE = 0.04


def main() -> int:
    """Prints seconds, and how many sorts that is; interleaved, medians."""
    parser = argparse.ArgumentParser(prog="scripts/bench evaluate", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    args = parser.parse_args()
    draw = np.random.default_rng(0)
    labels = (draw.random(args.rows) < POSITIVE).astype(np.uint8)
    one = (draw.standard_normal(args.rows) + labels).astype(np.float32)
    other = (one + 0.5 * draw.standard_normal(args.rows)).astype(np.float32)
    works = {
        "np.argsort of the scores": lambda: np.argsort(one),
        "AUC and its DeLong interval": lambda: auc_interval(labels, one),
        "difference of two AUCs, paired, and its interval": lambda: auc_difference(labels, one, other),
    }
    turns = [{name: seconds(work) for name, work in works.items()} for _ in range(ROUNDS)]
    took = {name: median(turn[name] for turn in turns) for name in works}
    sort = next(iter(took.values()))
    show((f"{args.rows:,} rows", "s", "sorts"), [(name, f"{s:.2f}", f"{s / sort:.2f}") for name, s in took.items()])
    return 0


def seconds(work: Callable[[], object]) -> float:
    """Of one run."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
