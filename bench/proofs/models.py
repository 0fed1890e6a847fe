"""All models on one generated log: AUCs, share of the true lift, paired differences, parameters, speed, memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.proofs.compared import (
    EXPERIMENTS,
    OUTPUTS,
    Trained,
    auc_differences,
    generated_table,
    kept,
    parameters,
    predictions,
    spread,
    train,
)
from bench.proofs.show import show
from funnelcast.data.table import Table
from funnelcast.experiments.evaluate import evaluate

NAMES = (
    "lightgbm", "single-task", "shared-bottom", "omoe", "mmoe", "esmm", "ple", "ple-chain", "aitm", "man-independent",
    "man",
)  # fmt: skip
"""Files in experiments/aliccp. The last one is what the others are compared with."""
ROWS, SEEDS = 400_000, 3


def models(small: bool = False, rows: int = ROWS, folder: Path | None = None) -> bool:
    """All models on a generated log of 400,000 rows, 3 seeds; figures only (20,000 rows, 1 seed, two models)."""
    seeds, names = (1, ("esmm", "man")) if small else (SEEDS, NAMES)
    with kept(folder) as out:
        table = generated_table(out, min(rows, 20_000) if small else rows)
        runs = [train(EXPERIMENTS / "aliccp" / f"{name}.toml", table, out / name, seeds) for name in names]
        measured = [_measure(run, table) for run in runs]
        show(("AUC on the test rows", *OUTPUTS), [(run.name, *m["auc"]) for run, m in zip(runs, measured, strict=True)])
        show(("share of the true lift", *OUTPUTS), [(r.name, *m["lift"]) for r, m in zip(runs, measured, strict=True)])
        files = {run.name: predictions(run, table) for run in runs}
        differences = [(name, *auc_differences(files[name], files[names[-1]])) for name in names[:-1]]
        show((f"AUC of {names[-1]} minus that of", *OUTPUTS), differences)
        head = ("cost", "parameters", "epochs", "training, rows/s", "peak MB", "s of all seeds, with start")
        show(head, [_cost(run) for run in runs])
    return True


def _measure(run: Trained, table: Path) -> dict[str, list[str]]:
    """Mean and deviation over the seeds, by output."""
    opened = Table.open(table)
    found = [evaluate(bundle, opened) for bundle in run.bundles]
    aucs = {o: [_auc(f["outputs"][o]) for f in found] for o in OUTPUTS}
    truth = {o: _auc(found[0]["truth"][o]) for o in OUTPUTS}
    lifts = {o: [(value - 0.5) / (truth[o] - 0.5) for value in values] for o, values in aucs.items()}
    return {"auc": [spread(v, 4) for v in aucs.values()], "lift": [spread(v, 3) for v in lifts.values()]}


def _auc(figures: dict[str, Any]) -> float:
    return float(figures["auc"]["estimate"])


def _cost(run: Trained) -> tuple[str, ...]:
    figures = (f"{run.epochs:.1f}", f"{run.rows_per_s:,.0f}", f"{run.cost.resident / 1e6:,.0f}")
    return run.name, parameters(run.bundles[0]), *figures, f"{run.cost.seconds:,.0f}"
