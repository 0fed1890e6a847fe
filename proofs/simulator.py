"""The simulator: MAN and `recommended` find nearly all that it holds, an additive model does not, and in noise there is
nothing to find.

A share is a model's AUC gain over chance over that of the true probabilities, on the same 200,000 test rows.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder

from funnelcast.data.columns import Columns
from funnelcast.data.table import Table
from funnelcast.evaluation.auc import auc
from funnelcast.experiments.evaluate import evaluate
from funnelcast.experiments.experiment import Experiment, experiment_of
from funnelcast.experiments.run import train
from funnelcast.testing.simulator import Simulator
from harness.show import show

GIVEN = "conversion_given_click"
TARGETS = {"click": 0.95, "conversion": 0.95, GIVEN: 0.90}
"""Least share by output."""
LEAK = 1.01
"""More than the truth has cannot be learned."""
ADDITIVE = 0.90
"""What an additive model must stay under."""
TRAIN_ROWS = 400_000
SETTINGS: dict[str, Any] = {
    "model": {"name": "man", "expert": [64, 32], "tower": [32], "tower_dropout": [], "embedding_dim": 8},
    "optimizer": {"learning_rate": 0.002},
    "stages": [{"epochs": 8, "patience": 2}],
}
"""MAN with small widths, stopped by the dev rows."""
Shares = dict[str, float]


def simulator(small: bool = False) -> bool:
    """The simulator with 5 seeds: networks at 95 % of the oracle's AUC gain (90 % given click), nothing in noise."""
    seeds = range(1 if small else 5)
    models = {"MAN": Experiment.from_dict(SETTINGS)} | ({} if small else {"recommended": experiment_of("recommended")})
    learned, noise = {name: list[Shares]() for name in models}, {name: list[Shares]() for name in models}
    additive = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            table = Simulator(seed).write_table(Path(folder) / "table", train=TRAIN_ROWS)
            rows = 50_000 if small else TRAIN_ROWS
            blank = Simulator(seed, noise=True).write_table(Path(folder) / "noise", train=rows)
            for name, experiment in models.items():
                found = figures(experiment, table, Path(folder) / name, seed)
                learned[name].append(shares(found))
                noise[name].append(errors_from_half(figures(experiment, blank, Path(folder) / f"{name}-noise", seed)))
            additive.append(additive_shares(table, found["truth"]))
    for name in models:
        show((f"{name}, share of the oracle's AUC gain", *TARGETS), _rows(learned[name]))
        show((f"{name} on noise, (AUC - 0.5) / standard error", *TARGETS), _rows(noise[name]))
    show(("additive model, share", *TARGETS), _rows(additive))
    return (
        all(
            TARGETS[output] <= share <= LEAK
            for own in learned.values()
            for each in own
            for output, share in each.items()
        )
        and all(share < ADDITIVE for found in additive for share in found.values())
        and all(abs(errors) < 3 for own in noise.values() for each in own for errors in each.values())
    )


def figures(experiment: Experiment, table: Table, folder: Path, seed: int = 0) -> dict[str, Any]:
    """Of a trained model and of the truth, on the test rows."""
    own = experiment.model_copy(update={"seed": seed})
    return evaluate(train(own, table, folder, baselines=False).bundle, table)


def shares(found: dict[str, Any]) -> dict[str, float]:
    """By output, of a model that `evaluate` measured beside the truth."""
    return {output: _auc_gain(found["outputs"][output]) / _auc_gain(found["truth"][output]) for output in TARGETS}


def errors_from_half(found: dict[str, Any]) -> dict[str, float]:
    """By output, how many standard errors the AUC is off 0.5."""
    return {
        output: _auc_gain(found["outputs"][output]) / found["outputs"][output]["auc"]["std_error"] for output in TARGETS
    }


def additive_shares(table: Table, truth: dict[str, Any]) -> dict[str, float]:
    """By output, of a logistic regression on one-hot fields, fitted to the same training rows."""
    fit, test = table.part("train"), table.part("test")
    encoder = OneHotEncoder().fit(fit.ids)
    found = {}
    for output, (step, given) in {"click": (0, False), "conversion": (1, False), GIVEN: (1, True)}.items():
        x, y = _labelled(encoder, fit, step, given)
        model = LogisticRegression(C=10, max_iter=300).fit(x, y)
        x, y = _labelled(encoder, test, step, given)
        found[output] = (auc(y, model.decision_function(x)) - 0.5) / _auc_gain(truth[output])
    return found


def _labelled(encoder: OneHotEncoder, rows: Columns, step: int, given: bool) -> tuple[Any, NDArray[np.uint8]]:
    """One-hot fields and a step's labels, of all rows or of those with a click."""
    assert rows.labels is not None
    used = rows.labels[:, 0] == 1 if given else slice(None)
    return encoder.transform(rows.ids[used]), rows.labels[used, step]


def _auc_gain(metrics: dict[str, Any]) -> float:
    return float(metrics["auc"]["estimate"]) - 0.5


def _rows(figures: list[dict[str, float]]) -> list[tuple[object, ...]]:
    return [(f"seed {seed}", *(f"{figure:.4f}" for figure in found.values())) for seed, found in enumerate(figures)]
