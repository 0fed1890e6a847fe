"""Labels: raw columns to 0, 1 or unobserved, and what to do with rows that contradict the funnel."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from funnelcast.data.columns import UNOBSERVED
from funnelcast.data.encoder import as_float
from funnelcast.errors import DataError
from funnelcast.schema.funnel import Funnel


def encode_labels(rows: pa.RecordBatch, funnel: Funnel) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Labels (N, T), null as unobserved, and a mask (N,) of rows that hold anything but 0, 1 and null."""
    labels = np.full((rows.num_rows, len(funnel.names)), UNOBSERVED, np.uint8)
    bad = np.zeros(rows.num_rows, bool)
    for t, name in enumerate(funnel.label_columns):
        values = as_float(rows.column(name), name)
        reached = values == 1
        bad |= ~(reached | (values == 0) | np.isnan(values))
        labels[:, t] = np.where(np.isnan(values), UNOBSERVED, reached)
    return labels, bad


def filled(labels: NDArray[np.uint8], funnel: Funnel) -> NDArray[np.uint8]:
    """Labels (N, T) with what the funnel says of steps that were not observed: reached before a reached step, and not
    reached after one that was not. Logs often leave a conversion empty where there was no click.
    """
    labels = labels.copy()
    edges = [(child, parent) for child, parent in enumerate(funnel.parents) if parent >= 0]
    for child, parent in reversed(edges):
        labels[(labels[:, child] == 1) & (labels[:, parent] == UNOBSERVED), parent] = 1
    for child, parent in edges:
        labels[(labels[:, parent] == 0) & (labels[:, child] == UNOBSERVED), child] = 0
    return labels


def inconsistent(labels: NDArray[np.uint8], funnel: Funnel) -> NDArray[np.bool_]:
    """Mask (N,) of rows in which a step is reached (1) and its parent is not (0)."""
    mask = np.zeros(len(labels), bool)
    for child, parent in enumerate(funnel.parents):
        if parent >= 0:
            mask |= (labels[:, child] == 1) & (labels[:, parent] == 0)
    return mask


def mend(labels: NDArray[np.uint8], funnel: Funnel) -> tuple[NDArray[np.uint8], NDArray[np.bool_], int]:
    """Labels (N, T), filled; a mask (N,) of rows to keep, and the count of inconsistent rows, by `funnel.on_broken`.

    Raises DataError when it is "error" and a row is inconsistent.
    """
    labels = filled(labels, funnel)
    mask = inconsistent(labels, funnel)
    count = int(mask.sum())
    if count and funnel.on_broken == "error":
        row = int(mask.argmax())
        raise DataError(
            f"{count} rows contradict the funnel, the first is row {row} with "
            + ", ".join(f"{name} = {label}" for name, label in zip(funnel.names, labels[row], strict=True))
            + "; mend the data, or set on_broken to 'drop' or 'imply'"
        )
    if funnel.on_broken == "imply":
        return _implied(labels, funnel), np.ones(len(labels), bool), count
    return labels, ~mask, count


def _implied(labels: NDArray[np.uint8], funnel: Funnel) -> NDArray[np.uint8]:
    """Every ancestor of a reached step reached; children come after parents, so one pass from the back does it."""
    labels = labels.copy()
    for child in reversed(range(len(funnel.parents))):
        parent = funnel.parents[child]
        if parent >= 0:
            labels[labels[:, child] == 1, parent] = 1
    return labels
