"""Whether training stays as fast as it begins: rows/s of each epoch, by model, rows and `l2`, on generated logs.

Each run is a process of its own, after an epoch of few rows to warm up, and is added to `--out` when it is done: a
bench that was stopped goes on, and one of more runs measures those that are missing. Labels follow nothing, so that
`l2` alone moves many weights, towards 0. A run is below the target where it is by the clock and by the time of cores,
of which other work takes nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.training import FUNNEL, RATES, build, draw
from funnelcast.data.columns import Columns
from funnelcast.registry import RECIPES
from funnelcast.runtime.threads import cores
from funnelcast.training.losses import LossConfig, build_loss_weights
from funnelcast.training.optimizers import OptimizerConfig
from funnelcast.training.stage_run import Plan
from funnelcast.training.stages import Stage
from funnelcast.training.trainer import Trainer
from harness.show import say, show

MODELS = [name for name, recipe in RECIPES.items() if recipe.differentiable]
WARM, DEV = 8192, 4096
"""Rows of the first epoch, which does not count, and of those that are measured after each."""
TARGET = 0.95
"""The slowest epoch over the first one, at least."""


@dataclass
class Clock:
    """Rows and seconds of each epoch from its first batch to its last, by the clock and of the process's cores."""

    epochs: dict[str, list[tuple[int, float, float]]] = field(default_factory=dict)

    def __call__(self, stage: str, done: int, total: int, unit: str, note: str = "") -> None:
        """Take a report of the trainer; of the last batch there is another one, when dev rows are measured."""
        reports = self.epochs.setdefault(stage, [])
        if not reports or done > reports[-1][0]:
            reports.append((done, time.perf_counter(), time.process_time()))

    def rates(self) -> list[tuple[float, float]]:
        """Return rows/s, and rows by second of a core."""
        ends = [(reports[0], reports[-1]) for reports in self.epochs.values()]
        return [((b[0] - a[0]) / (b[1] - a[1]), (b[0] - a[0]) / (b[2] - a[2])) for a, b in ends]


def main() -> int:
    """Prints a row per run; exit status 1 where one falls below the target."""
    parser = argparse.ArgumentParser(prog="scripts/bench endurance", description=__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--rows", nargs="+", type=int, default=[100_000, 2_000_000])
    parser.add_argument("--l2", nargs="+", type=float, default=[0.0, 1e-6, 1e-4])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--batch-size", type=int, default=2048)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--out", type=Path, default=Path("runs/bench-endurance.json"))
    parser.add_argument("--cell", nargs=3, help=argparse.SUPPRESS, metavar=("MODEL", "ROWS", "L2"))
    args = parser.parse_args()
    if args.cell is not None:
        model, rows, l2 = args.cell
        sys.stdout.write(json.dumps(_measured(model, int(rows), float(l2), args)) + "\n")
        return 0
    found = json.loads(args.out.read_text()) if args.out.is_file() else {}
    table, least = [], 1.0
    for model, rows, l2 in product(args.models, args.rows, args.l2):
        name = f"{model}, {rows} rows, l2 {l2:g}, " + ", ".join(_settings(args))
        if name not in found:
            found[name] = _of_process(model, rows, l2, args)
            _write(args.out, found)
        by_clock, by_core = ([pair[i] for pair in found[name]] for i in range(2))
        shares = [min(rates) / rates[0] for rates in (by_clock, by_core)]
        least = min(least, max(shares))
        rates = " ".join(f"{rate / 1000:.1f}" for rate in by_clock)
        table.append((model, f"{rows:,}", f"{l2:g}", f"{shares[0]:.0%}", f"{shares[1]:.0%}", rates))
        say(" | ".join(table[-1]))
    show(("model", "rows", "l2", "slowest over first", "by time of cores", "1,000 rows/s of each epoch"), table)
    return int(least < TARGET)


def _settings(args: argparse.Namespace) -> list[str]:
    """What all processes have in common, as arguments."""
    names = ("epochs", "workers", "batch_size", "learning_rate")
    return [f"--{name.replace('_', '-')}={getattr(args, name)}" for name in names]


def _of_process(model: str, rows: int, l2: float, args: argparse.Namespace) -> Any:
    run = ["--cell", model, str(rows), str(l2)]
    command = [sys.executable, "-m", "bench.endurance", *run, *_settings(args)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def _write(path: Path, found: dict[str, Any]) -> None:
    """At once, so that a kill leaves what there was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(found, indent=1))
    partial.replace(path)


def _measured(model: str, rows: int, l2: float, args: argparse.Namespace) -> list[tuple[float, float]]:
    """Rates of the epochs."""
    torch.set_num_threads(1)
    config = OptimizerConfig(l2=l2, batch_size=args.batch_size, learning_rate=args.learning_rate)
    train, dev = draw(rows, 0), draw(DEV, 1)
    _train(model, train.take(np.arange(min(WARM, rows))), dev, config, 1, args.workers)
    return _train(model, train, dev, config, args.epochs, args.workers).rates()


def _train(name: str, train: Columns, dev: Columns, config: OptimizerConfig, epochs: int, workers: int) -> Clock:
    """By the trainer, which stops for nothing."""
    clock, stage = Clock(), Stage(epochs=epochs, patience=epochs)
    plan = Plan(LossConfig(), config, (stage,), seed=0, workers=workers)
    with tempfile.TemporaryDirectory() as folder:
        weights = build_loss_weights(plan.loss, RATES)
        Trainer(build(name, 5), weights, FUNNEL, plan, Path(folder), clock).run(train, dev)
    return clock


if __name__ == "__main__":
    sys.exit(main())
