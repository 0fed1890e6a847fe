"""Billion operations a second of layers, forward: our kernels, and PyTorch's products alone; on one core.

Ours add a bias and take a ReLU on the way; PyTorch's write into memory that is there. Interleaved, medians.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from bench.interleaved import PRECISIONS
from funnelcast import ops
from harness.show import show

SHAPES = ((90, 256), (288, 256), (256, 128), (128, 128))
"""Of the first layer of an expert with embeddings of 5 and 16, its second one, and of a tower."""
NETWORKS = 8


def main() -> int:
    """Prints a row per shape."""
    parser = argparse.ArgumentParser(prog="scripts/bench products", description=__doc__)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    ops.keep_freed_memory()
    found = []
    for width_in, width in SHAPES:
        x, weight = torch.randn(args.rows, width_in), torch.randn(NETWORKS, width_in, width)
        operations = 2 * NETWORKS * args.rows * width_in * width
        times = _times(_works(x, weight, torch.zeros(NETWORKS, width)), args.rounds)
        found.append((f"{width_in} → {width}", *(f"{operations / seconds / 1e9:,.0f}" for seconds in times.values())))
    show((f"{NETWORKS} networks, {args.rows} rows", *times), found)
    return 0


def _works(x: Tensor, weight: Tensor, bias: Tensor) -> dict[str, Callable[[], object]]:
    out = weight.new_empty(len(weight), len(x), weight.shape[2])

    def alone() -> None:
        for n, own in enumerate(weight):
            torch.mm(x, own, out=out[n])

    def ours(precision: ops.Precision) -> Callable[[], object]:
        def run() -> Tensor:
            with ops.compute(x.device, precision=precision, order=0):
                return ops.mlp_bank(x, [weight], [bias])

        return run

    return {"PyTorch, its product": alone, **{f"ours, {precision}": ours(precision) for precision in PRECISIONS}}


def _times(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Medians, in seconds."""
    took: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            took[name].append(time.perf_counter() - started)
    return {name: median(each) for name, each in took.items()}


if __name__ == "__main__":
    sys.exit(main())
