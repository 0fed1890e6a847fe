"""What bfloat16 costs in AUC and calibration: experiments trained in both precisions, and scored in both.

Runs are kept in `--out`, so that one that was stopped goes on.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from funnelcast.data.columns import Columns
from funnelcast.data.table import Table
from funnelcast.evaluation.funnel import measure_funnel
from funnelcast.evaluation.score import score
from funnelcast.experiments.experiment import Experiment
from funnelcast.experiments.run import train
from funnelcast.ops import Precision
from funnelcast.serving.bundle import Bundle
from harness.show import say, show

PRECISIONS: tuple[Precision, Precision] = ("float32", "bfloat16")


def main() -> int:
    """Prints, by experiment and output, means over seeds on the test rows."""
    parser = argparse.ArgumentParser(prog="scripts/bench halves", description=__doc__)
    parser.add_argument("experiments", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="a prepared table")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=1000, help="of a stage, at most")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/bench-halves"))
    args = parser.parse_args()
    table, rows = Table.open(args.data), list[tuple[str, ...]]()
    test = table.part("test")
    for path in args.experiments:
        seeds = [_of_seed(path, seed, args, table, test) for seed in range(args.seeds)]
        for name in table.schema.funnel.outputs:
            rows.append((path.stem, name.name, *_row([found[name.name] for found in seeds])))
    head = (
        "AUC, float32",
        "trained in bfloat16",
        "scored in it",
        "observed / predicted, float32",
        "scored in bfloat16",
    )
    show((f"{args.seeds} seeds, {len(test):,} rows", "output", *head), rows)
    return 0


def _of_seed(
    path: Path, seed: int, args: argparse.Namespace, table: Table, test: Columns
) -> dict[str, tuple[Any, Any, Any]]:
    """By output, what was measured of a run in float32, of one in bfloat16, and of the first scored in bfloat16."""
    bundles = {}
    for precision in PRECISIONS:
        own = Experiment.from_toml(path, seed=seed, workers=args.workers)
        stages = [s.model_copy(update={"epochs": min(s.epochs, args.epochs)}) for s in own.stages]
        optimizer = own.optimizer.model_copy(update={"precision": precision})
        own = own.model_copy(update={"optimizer": optimizer, "stages": tuple(stages)})
        folder = args.out / f"{path.stem}-{seed}-{precision}"
        bundles[precision] = train(own, table, folder, parts=()).bundle
        say(f"{path.stem}, seed {seed}, {precision}: trained")
    float32, bf16 = (_measured(bundles[p], test, p) for p in PRECISIONS)
    scored = _measured(bundles["float32"], test, "bfloat16")
    return {name: (float32[name], bf16[name], scored[name]) for name in float32}


def _measured(bundle: Bundle, test: Columns, precision: Precision) -> dict[str, Any]:
    log_p, log_q = score(bundle.model, test, bundle.keep_negatives, precision=precision)
    assert test.labels is not None
    return dict(measure_funnel(bundle.encoder.schema.funnel, test.labels, log_p, log_q, test.weight).outputs)


def _row(seeds: list[tuple[Any, Any, Any]]) -> tuple[str, ...]:
    """AUC of float32, and by how much the others differ from it; the same of observed / predicted."""
    float32, bf16, scored = ([found[i].auc.estimate for found in seeds] for i in range(3))
    ratio, ratio_scored = (np.array([found[i].observed_over_predicted for found in seeds]) for i in (0, 2))
    return (
        f"{mean(float32):.4f}",
        _mean_and_std([b - a for a, b in zip(float32, bf16, strict=True)]),
        _mean_and_std([b - a for a, b in zip(float32, scored, strict=True)]),
        f"{ratio.mean():.4f}",
        f"{np.abs(ratio_scored / ratio - 1).max():.2%} off at most",
    )


def _mean_and_std(differences: list[float]) -> str:
    """Mean, and standard deviation over seeds."""
    return f"{mean(differences):+.5f} ({stdev(differences):.5f})"


if __name__ == "__main__":
    sys.exit(main())
