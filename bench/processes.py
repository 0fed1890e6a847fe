"""Two worker threads beside two processes that exchange gradients by gloo, on the same batches.

Each process has the whole network, takes half of a batch, adds up the dense gradients by `all_reduce`, gathers those of
the embedded rows, and moves all parameters itself, so that both stay alike; as by torchrun, without its launcher.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from torch import distributed

from bench.training import RATES, build, draw
from funnelcast.ops import keep_freed_memory
from funnelcast.runtime.threads import worker_pool
from funnelcast.training.gradients import Gradients, joined
from funnelcast.training.losses import LossConfig, build_loss_weights
from funnelcast.training.optimizers import OptimizerConfig
from funnelcast.training.stage_run import Plan, StageRun, stage_run_of
from funnelcast.training.stages import Stage
from harness.show import show

BATCH, BATCHES, WARM = 2048, 120, 20


def main() -> int:
    """Prints rows/s by model and way."""
    parser = argparse.ArgumentParser(prog="scripts/bench processes", description=__doc__)
    parser.add_argument("--models", nargs="+", default=["mmoe", "shared_bottom"])
    parser.add_argument("--embedding", nargs="+", type=int, default=[5, 16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rank", type=int, help="of a process of the bench's own")
    parser.add_argument("--meeting", type=Path, help="where these meet")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    if args.rank is not None:
        rate = _process(args.models[0], args.embedding[0], args.rank, args.meeting)
        sys.stdout.write(json.dumps(rate))
        return 0
    found = []
    for dim in args.embedding:
        for name in args.models:
            rounds = [(_threads(name, dim), _processes(name, dim)) for _ in range(args.rounds)]
            shared, apart = (median(rates) for rates in zip(*rounds, strict=True))
            found.append((name, dim, f"{shared:,.0f}", f"{apart:,.0f}", f"{shared / apart:.2f}"))
    show(("model", "embedding", "two threads, rows/s", "two processes", "threads / processes"), found)
    return 0


def _stage_run(name: str, dim: int, micro_batch: int) -> StageRun:
    model, loss = build(name, dim), LossConfig()
    optimizer = OptimizerConfig(batch_size=BATCH, micro_batch=micro_batch)
    plan = Plan(loss, optimizer, (Stage(epochs=1),), seed=0, workers=2)
    rows = draw((BATCHES + WARM) * BATCH, 0)
    return stage_run_of(plan.stages[0], model, build_loss_weights(loss, RATES), plan, rows, None)


def _threads(name: str, dim: int) -> float:
    stage_run, started = _stage_run(name, dim, BATCH // 2), 0.0
    with worker_pool(2) as pool:
        for i, batch in enumerate(stage_run.loader.epoch(0)):
            started = time.perf_counter() if i == WARM else started
            found = stage_run.step(batch, i, pool)
            stage_run.optimizer.step(found, pool)
    return BATCHES * BATCH / (time.perf_counter() - started)


def _processes(name: str, dim: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        own = ["--models", name, "--embedding", str(dim), "--meeting", f"{folder}/meeting"]
        command = [sys.executable, "-m", "bench.processes", *own]
        runs = [subprocess.Popen([*command, "--rank", str(rank)], stdout=subprocess.PIPE) for rank in range(2)]
        return min(float(json.loads(run.communicate()[0])) for run in runs)


def _process(name: str, dim: int, rank: int, meeting: Path) -> float:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    stage_run, started = _stage_run(name, dim, BATCH // 2), 0.0
    for i, batch in enumerate(stage_run.loader.epoch(0)):
        started = time.perf_counter() if i == WARM else started
        half = len(batch) // 2
        found = _exchanged(stage_run.step(batch.slice(rank * half, (rank + 1) * half), i, None))
        stage_run.optimizer.step(replace(found, rows=batch))
    distributed.barrier()
    rate = BATCHES * BATCH / (time.perf_counter() - started)
    distributed.destroy_process_group()
    return rate


def _exchanged(own: Gradients) -> Gradients:
    """The mean of both processes' gradients, which each had of the mean over its half."""
    flat = torch.cat([grad.flatten() for grad in own.parameters]).div_(2)
    distributed.all_reduce(flat)
    sizes = [grad.numel() for grad in own.parameters]
    shared = [part.view_as(grad) for part, grad in zip(flat.split(sizes), own.parameters, strict=True)]
    assert own.embedded is not None
    rows = own.embedded.flat.div_(2)
    halves = [torch.empty_like(rows) for _ in range(2)]
    distributed.all_gather(halves, rows)
    embedded = joined([own.embedded.with_tensors([half]) for half in halves])
    return Gradients(own.rows, own.losses, own.weights, [shared], [embedded])


if __name__ == "__main__":
    sys.exit(main())
