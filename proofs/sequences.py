"""Sequences: the signal is in the match with the target, or in the order; which pooling learns it, and the controls."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Literal

from funnelcast.experiments.evaluate import evaluate
from funnelcast.experiments.experiment import Experiment
from funnelcast.experiments.run import train
from harness.show import show
from proofs.simulator import TARGETS, errors_from_half, shares
from proofs.simulators.sequences import SequenceSimulator

Signal = Literal["match", "order"]
POOLS: dict[str, Any] = {
    "mean": "mean",
    "target attention": {"kind": "target_attention", "field": "target"},
    "target attention with positions": {"kind": "target_attention", "field": "target", "positions": True},
    "transformer": {"kind": "transformer", "heads": 2},
}
LEARNED: dict[Signal, tuple[str, ...]] = {
    "match": ("target attention", "target attention with positions"),
    "order": ("target attention with positions", "transformer"),
}
"""Which pools must reach `SHARE` of the oracle's AUC gain of clicks."""
BLIND: dict[Signal, tuple[str, ...]] = {"match": (), "order": ("mean", "target attention")}
"""Which cannot see the signal, and must stay within noise of 0."""
SHARE = 0.9
ROWS = 150_000
_HEAD = ("signal", "histories", "pooling", *(f"share: {output}" for output in TARGETS), "click: (AUC - .5) / s.e.")
NOISE = 4.0
"""Standard errors that chance may stray, over all the figures here."""


def sequences(small: bool = False) -> bool:
    """Match and order of a sequence are learned by the pools that can see them, and shuffled by none (two of them)."""
    rows, holds = [], True
    for signal in LEARNED:
        names = LEARNED[signal][:1] if small else tuple(POOLS)
        for shuffled in (False, True):
            for name in names:
                found = fit(signal, POOLS[name], shuffled=shuffled, rows=50_000 if small and shuffled else ROWS)
                rows.append(_row(signal, name, found, shuffled=shuffled))
                holds &= _holds(signal, name, found, shuffled=shuffled)
                show(_HEAD, rows[-1:])
    show(_HEAD, rows)
    return holds


def fit(signal: Signal, pool: Any, *, shuffled: bool, seed: int = 0, rows: int = ROWS) -> dict[str, Any]:
    """The figures of MAN with this pooling, trained on so many rows, and of the truth, on the test rows."""
    model = {"name": "man", "embedding_dim": 16, "expert": [64, 32], "tower": [32], "tower_dropout": []}
    settings = {
        "seed": seed,
        "model": {**model, "pooling": {"history": pool}},
        "optimizer": {"learning_rate": 0.003},
        "stages": [{"epochs": 12, "patience": 2}],
    }
    with tempfile.TemporaryDirectory() as name:
        table = SequenceSimulator(signal, seed, shuffled=shuffled).write_table(Path(name) / "table", train=rows)
        run = train(Experiment.from_dict(settings), table, Path(name) / "run")
        return evaluate(run.bundle, table)


def _holds(signal: Signal, name: str, found: dict[str, Any], *, shuffled: bool) -> bool:
    chance = abs(errors_from_half(found)["click"]) < NOISE
    if shuffled or name in BLIND[signal]:
        return chance
    return name not in LEARNED[signal] or SHARE <= shares(found)["click"] <= 1.01


def _row(signal: str, name: str, found: dict[str, Any], *, shuffled: bool) -> tuple[str, ...]:
    figures = [f"{share:.3f}" for share in shares(found).values()]
    return signal, "shuffled" if shuffled else "as drawn", name, *figures, f"{errors_from_half(found)['click']:.1f}"
