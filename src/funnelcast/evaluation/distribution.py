"""The distribution of predictions, with which later ones are compared."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from funnelcast.evaluation.rows import Array

BINS: Final = 10


def distribution(p: Array) -> dict[str, Any]:
    """Of predictions (N,): their `mean`, the `edges` between bins of equal mass, ascending and distinct, and the
    `shares` of rows in the bins, one more than edges. A prediction that is an edge belongs to the bin above."""
    edges = np.unique(np.quantile(p, np.arange(1, BINS) / BINS)) if len(p) else np.empty(0)
    shares = counts_of(p, edges) / max(1, len(p))
    return {"mean": float(np.mean(p)) if len(p) else None, "edges": edges.tolist(), "shares": shares.tolist()}


def counts_of(p: Array, edges: Array) -> Array:
    """Rows (edges + 1,) in each bin."""
    return np.bincount(np.searchsorted(edges, p, side="right"), minlength=len(edges) + 1)
