"""Fitting a calibration to scored rows: every step's map, then its offsets by a field."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from funnelcast.calibration.calibration import Calibration, FieldOffsets
from funnelcast.calibration.step_fit import StepOffsets, StepRows, fit_offsets, fit_step
from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns
from funnelcast.data.encoder import InputSpec
from funnelcast.evaluation.rows import Array
from funnelcast.ops.reach import Reach, logits_given_parent
from funnelcast.training.statistics import step_rows


def fit_calibration(
    reach: Reach,
    rows: Columns,
    parents: tuple[int, ...],
    inputs: InputSpec,
    by: str | None = None,
    *,
    keys: Array | None = None,
    source: dict[str, Any] | None = None,
    seed: int = 0,
) -> Calibration:
    """Of the reach (N, T) that a model gives to labelled rows, which it was neither trained nor stopped by.

    `by`: an id feature; `keys` (N,): rows of one key are not independent; `source`: what the rows are, to be kept.
    """
    assert rows.labels is not None
    logits, counted = logits_given_parent(reach, parents).numpy(), step_rows(rows.labels, parents)
    weight = np.ones(len(rows)) if rows.weight is None else rows.weight.astype(np.float64)
    column = None if by is None else [name for name, _ in inputs.fields].index(by)
    steps, offsets = [], list[StepOffsets | None]()
    for t in range(len(parents)):
        own = np.flatnonzero(counted[:, t] & (weight > 0))
        scale = weight[own].mean() if len(own) else 1.0
        y, key = (rows.labels[own, t] == 1).astype(np.float64), None if keys is None else keys[own]
        step = StepRows(logits[own, t], y, weight[own] / scale, key)
        steps.append(fit_step(step, seed))
        if column is not None:
            offsets.append(fit_offsets(step.mapped(steps[-1]), rows.ids[own, column], seed))
    found = None if by is None or column is None else _by_field(by, column, offsets)
    return Calibration(tuple(steps), parents, len(rows), source or {}, found)


def _by_field(feature: str, column: int, steps: list[StepOffsets | None]) -> FieldOffsets | None:
    """None where no step has offsets."""
    fitted = [step for step in steps if step is not None]
    if not fitted:
        return None
    ids: Array = np.unique(np.concatenate([step.groups for step in fitted]))
    columns = [np.zeros(len(ids)) if step is None else step.of(ids) for step in steps]
    others = [0.0 if step is None else step.others for step in steps]
    return FieldOffsets(feature, column, ids.tolist(), np.stack(columns, 1).tolist(), others)


def calibrated(calibration: Calibration, log_p: Array, log_q: Array, rows: Columns) -> tuple[Array, Array]:
    """Log p and log q (N, T) of rows, by those of a model."""
    found = calibration(reach_of(log_p, log_q), Batch.of(rows))
    return found.log_p.numpy(), found.log_q.numpy()


def reach_of(log_p: Array, log_q: Array) -> Reach:
    """Of arrays (N, T)."""
    return Reach(torch.from_numpy(log_p), torch.from_numpy(log_q))
