"""Scoring rows with a model: the one path of training, evaluating and predicting, so that their figures agree."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns
from funnelcast.ops import Precision, Reach, check_precision
from funnelcast.ops.reach import undo_downsampling
from funnelcast.runtime.threads import Workers, mapped, threads

CHUNK = 4096
"""Rows of one forward pass; the last bits of a figure depend on it, so it is the same everywhere."""


class Scorer(Protocol):
    """What a model is to whoever scores with it."""

    @property
    def parents(self) -> tuple[int, ...]: ...

    @property
    def device(self) -> torch.device: ...

    def score(self, batch: Batch, *, precision: Precision = "float32") -> Reach: ...


def score(
    model: Scorer,
    columns: Columns,
    keep_negatives: float = 1.0,
    on_chunk: Callable[[int], None] | None = None,
    precision: Precision = "float32",
    workers: int | None = None,
    calibration: Callable[[Reach, Batch], Reach] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Log p and log q, (N, T) each, of having reached each step, corrected for the sampling of negatives, and by a
    `calibration` then. `workers`: threads for a network on the CPU, by default as many as torch may use; figures do not
    depend on it. Raises FunnelcastError for a precision that this processor has not."""
    check_precision(precision, model.device)
    rows = Batch.of(columns)
    log_p = np.empty((len(columns), len(model.parents)), np.float32)
    log_q = np.empty_like(log_p)

    @torch.inference_mode()
    def of_chunk(start: int) -> int:
        stop = min(start + CHUNK, len(columns))
        batch = rows.slice(start, stop).to(model.device)
        reach = model.score(batch, precision=precision)
        if keep_negatives < 1:
            reach = undo_downsampling(reach, model.parents, keep_negatives)
        if calibration is not None:
            reach = calibration(reach, batch)
        log_p[start:stop] = reach.log_p.cpu().numpy()
        log_q[start:stop] = reach.log_q.cpu().numpy()
        return stop

    starts = range(0, len(columns), CHUNK)
    workers = max(1, min(workers or torch.get_num_threads(), len(starts)))
    with _threads(model, workers) as pool:
        for stop in mapped(pool, of_chunk, starts, workers):
            if on_chunk is not None:
                on_chunk(stop)
    return log_p, log_q


def _threads(model: Scorer, workers: int) -> AbstractContextManager[Workers | None]:
    """For a network on the CPU; a graphics card and LightGBM have threads of their own."""
    is_network = any(isinstance(each, nn.Module) for each in (model, getattr(model, "network", None)))
    return threads(workers) if is_network and model.device.type == "cpu" else nullcontext()
