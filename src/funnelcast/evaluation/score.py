"""Scoring rows with a model: the one path of training, evaluating and predicting, so that their figures agree."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns
from funnelcast.layers.heads import undo_downsampling
from funnelcast.layers.mode import Precision, is_half
from funnelcast.models.base import Model

PIECE = 4096
"""Rows of one forward pass; the last bits of a figure depend on it, so it is the same everywhere."""


@torch.inference_mode()
def score(
    model: Model,
    columns: Columns,
    keep_negatives: float = 1.0,
    on_piece: Callable[[int], None] | None = None,
    precision: Precision = "float32",
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """log p and log q, (N, T) each, of having reached each step, corrected for the sampling of negatives. Raises
    FunnelcastError for a precision that this processor has not."""
    rows, half = Batch.of(columns), is_half(precision, model.device)
    log_p = np.empty((len(columns), len(model.parents)), np.float32)
    log_q = np.empty_like(log_p)
    for start in range(0, len(columns), PIECE):
        stop = min(start + PIECE, len(columns))
        reach = model.score(rows.slice(start, stop).to(model.device), half=half)
        if keep_negatives < 1:
            reach = undo_downsampling(reach, model.parents, keep_negatives)
        log_p[start:stop] = reach.log_p.cpu().numpy()
        log_q[start:stop] = reach.log_q.cpu().numpy()
        if on_piece is not None:
            on_piece(stop)
    return log_p, log_q
