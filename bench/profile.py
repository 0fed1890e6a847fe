"""Where a training step spends its time: the trainer's own parts, timed one inside the other, on one thread."""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock

import torch

from bench.floor import Floor, products_of
from bench.training import RATES, build, draw
from funnelcast import ops
from funnelcast.data.batch import Batch
from funnelcast.kernels.cpu.graph import Graph
from funnelcast.layers.embedding import Embedding
from funnelcast.registry import RECIPES
from funnelcast.training import optimizers, step
from funnelcast.training.adam import DenseAdam, RowAdam
from funnelcast.training.losses import LossConfig, build_loss_weights
from funnelcast.training.optimizers import OptimizerConfig
from funnelcast.training.stage_run import Plan, StageRun, stage_run_of
from funnelcast.training.stages import Stage
from harness.show import show

BATCHES = 80


class Clock:
    """Seconds by part, each without what is timed inside it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside = [0.0]

    def around(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            self._inside.append(0.0)
            result = function(*arguments, **named)
            took = time.perf_counter() - started
            self.seconds[part] += took - self._inside.pop()
            self._inside[-1] += took
            return result

        return timed


def main() -> int:
    """Prints a table per model: milliseconds of a batch, and shares."""
    parser = argparse.ArgumentParser(prog="scripts/bench profile", description=__doc__)
    parser.add_argument("--models", nargs="+", default=["man", "shared_bottom", "esmm"], choices=RECIPES)
    parser.add_argument("--embedding", type=int, default=5)
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    ops.keep_freed_memory()
    for name in args.models:
        config = OptimizerConfig(precision=args.precision)
        stage_run = stage_run_on(name, args.embedding, config)
        shapes = products_of(build(name, args.embedding), Batch.of(draw(config.micro_batch, 1)))
        floor = config.batch_size / Floor(shapes, config.micro_batch).rate(2.0)
        parts = profile(stage_run)
        total = sum(parts.values())
        slowest_first = sorted(parts.items(), key=lambda each: -each[1])
        table = [(part, f"{own * 1e3:.2f}", f"{own / total:.1%}") for part, own in slowest_first]
        table.append(("all", f"{total * 1e3:.2f}", f"{config.batch_size / total:,.0f} rows/s"))
        table.append(("the floor: its products alone, by torch", f"{floor * 1e3:.2f}", f"{floor / total:.1%}"))
        show((f"{name}, embedding {args.embedding}, {args.precision}", "ms", "share"), table)
    return 0


def stage_run_on(name: str, dim: int, config: OptimizerConfig) -> StageRun:
    """Of a fresh model, with `BATCHES` of rows."""
    plan = Plan(LossConfig(), config, (Stage(epochs=1),), seed=0)
    loss_weights, rows = build_loss_weights(plan.loss, RATES), draw(BATCHES * config.batch_size, 0)
    return stage_run_of(plan.stages[0], build(name, dim), loss_weights, plan, rows, None)


def profile(stage_run: StageRun) -> dict[str, float]:
    """Seconds of a batch by part."""
    clock, as_it_is = Clock(), Graph.replay

    def replay(graph: Graph, inputs: Any) -> None:
        timed = [clock.around(_part_of(call), call) for call in graph.calls]
        with mock.patch.object(graph, "calls", timed):
            as_it_is(graph, inputs)

    targets: list[tuple[Any, str, str]] = [
        (Embedding, "forward", "looking up embeddings"),
        (ops.Captured, "__call__", "handing a captured step its rows"),
        (step, "add_up", "adding up microbatches, and what is between"),
        (optimizers, "row_gradients", "gradients of embedding rows"),
        (RowAdam, "step", "Adam of embedding rows"),
        (DenseAdam, "shares", "Adam of other parameters"),
        (ops, "adam", "Adam of other parameters"),
    ]
    with ExitStack() as patched:
        for owner, name, part in targets:
            patched.enter_context(mock.patch.object(owner, name, clock.around(part, getattr(owner, name))))
        patched.enter_context(mock.patch.object(Graph, "replay", replay))
        _epoch(stage_run, clock, 0)
        clock.seconds.clear()
        _epoch(stage_run, clock, 1)
    return {part: own / BATCHES for part, own in clock.seconds.items()}


KERNELS = {
    "forward": "kernels of layers, forward",
    "backward": "kernels of layers, backward",
    "_add_losses": "losses",
    "_index": "finding vectors that repeat",
}
"""What of a captured step is timed as what; anything else is an operation of torch's."""


def _part_of(call: Any) -> str:
    name = getattr(getattr(call, "func", call), "__name__", "")
    return KERNELS.get(name, "operations of torch's beside them")


def _epoch(stage_run: StageRun, clock: Clock, number: int) -> None:
    def train(batches: Any) -> bool:
        batch = clock.around("reading rows", next)(batches, None)
        if batch is None:
            return False
        found = stage_run.step(batch, number, None)
        found.losses.tolist()
        stage_run.optimizer.step(found)
        return True

    batches = stage_run.loader.epoch(number)
    while clock.around("all else", train)(batches):
        pass


if __name__ == "__main__":
    sys.exit(main())
