"""How much the tasks of a training differ: by step, the standard deviation over them of an offset of its logit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from funnelcast.data.columns import UNOBSERVED, Columns
from funnelcast.evaluation.funnel import conditional
from funnelcast.evaluation.recalibration import OffsetPrior
from funnelcast.evaluation.rows import Array, Bools
from funnelcast.evaluation.score import score
from funnelcast.models.base import Model
from funnelcast.training.information import UNMEASURED

ROWS, LEAST = 500_000, 50
"""At most so many rows of whole tasks are looked at; with fewer positives a step is not measured."""


def differences(
    model: Model, rows: Columns, keys: Array, known: Bools, parents: Sequence[int], keep_negatives: float = 1.0
) -> list[float]:
    """(T,) of what the logit of each step is of, given its parent or not. `keys`, `known` (N,): of the tasks."""
    chosen = _whole_tasks(keys, known)
    rows, keys = rows.take(chosen), keys[chosen]
    assert rows.labels is not None
    (log_p, log_q), labels = score(model, rows, keep_negatives), rows.labels
    found = []
    for t, parent in enumerate(parents):
        counted = labels[:, t] != UNOBSERVED
        own, rest = log_p[:, t].astype(np.float64), log_q[:, t].astype(np.float64)
        if parent >= 0:
            counted &= labels[:, parent] == 1
            own, rest, _ = conditional(own, log_p[:, parent])
        reached = labels[counted, t]
        enough = min(int(reached.sum()), len(reached) - int(reached.sum())) >= LEAST
        prior = OffsetPrior.fit((own - rest)[counted], reached, keys[counted]) if enough else None
        found.append(UNMEASURED if prior is None else prior.std)
    return found


def _whole_tasks(keys: Array, known: Bools) -> Array:
    """The rows of as many tasks as make up ROWS, drawn at random: at least those of one."""
    own = np.flatnonzero(known)
    _, codes, counts = np.unique(keys[own], return_inverse=True, return_counts=True)
    order = np.random.default_rng(0).permutation(len(counts))
    taken = order[: max(1, int(np.searchsorted(np.cumsum(counts[order]), ROWS, side="right")))]
    return own[np.isin(codes, taken)]
