"""AUC gains over chance, AUC - 1/2, on rows of the simulator: of the truth, and of a model that adds up fields."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.columns import Columns
from funnelcast.data.encoder import InputSpec
from funnelcast.evaluation.auc import auc
from funnelcast.schema.funnel import Funnel
from funnelcast.testing.simulator import FIELDS, VALUES, Simulator

Floats = NDArray[np.float64]

FUNNEL = Funnel.parse("click; conversion after click")
SIMULATED = InputSpec(
    tuple((f"f{i}", f"f{i}") for i in range(FIELDS)), {f"f{i}": VALUES + 1 for i in range(FIELDS)}, ()
)
"""What a model reads of the known process."""
ROWS = {"train": 60_000, "dev": 20_000, "test": 50_000}
"""Of the known process, and of noise."""


def labels_of(columns: Columns) -> NDArray[np.uint8]:
    """(N, T)."""
    assert columns.labels is not None
    return columns.labels


@cache
def simulated_parts(noise: bool) -> tuple[dict[str, Columns], Floats]:
    """The parts, and the true probabilities (N, T) of the test rows."""
    samples = {part: Simulator(noise=noise).sample(rows, i) for i, (part, rows) in enumerate(ROWS.items())}
    parts = {
        part: Columns(drawn.ids, np.empty((len(drawn.ids), 0), np.float32), labels=drawn.labels)
        for part, drawn in samples.items()
    }
    click = samples["test"].p_click
    return parts, np.stack([click, click * samples["test"].p_conversion_given_click], 1)


def auc_gains_of(test: Columns, scores: NDArray[Any]) -> list[float]:
    """By step, of scores (N, T) of the test rows."""
    return [auc(labels_of(test)[:, t], scores[:, t]) - 0.5 for t in range(len(FUNNEL.names))]


@cache
def additive_auc_gains() -> list[float]:
    """Of a logistic regression on one-hot fields, by Newton's method with a ridge of 0.1."""
    parts, _ = simulated_parts(noise=False)
    x, test = _one_hot(parts["train"]), _one_hot(parts["test"])
    weights = np.zeros((x.shape[1], len(FUNNEL.names)))
    ridge = 0.1 * np.eye(x.shape[1])
    for _ in range(6):
        p = 1 / (1 + np.exp(-x @ weights))
        for t in range(len(FUNNEL.names)):
            curvature = x.T @ (x * (p[:, t] * (1 - p[:, t]))[:, None]) + ridge
            slope = x.T @ (labels_of(parts["train"])[:, t] - p[:, t]) - ridge @ weights[:, t]
            weights[:, t] += np.linalg.solve(curvature, slope)
    return auc_gains_of(parts["test"], test @ weights)


def _one_hot(columns: Columns) -> Floats:
    """(N, FIELDS * VALUES + 1), the last column 1."""
    hot = np.zeros((len(columns), FIELDS * VALUES + 1))
    hot[np.arange(len(columns))[:, None], columns.ids - 1 + VALUES * np.arange(FIELDS)] = 1
    hot[:, -1] = 1
    return hot
