"""How scores are spread, for rows that reached a step and for the others."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funnelcast.reports.diagnosis.scored import Scored

BINS = 40


def distribution(scored: Scored) -> dict[str, Any]:
    """By output: edges of bins in log10 p, and weights of the rows in each by label."""
    found = {}
    for output in scored.outputs():
        rows = scored.rows(output)
        x = rows.log_p / math.log(10)
        if not len(x):
            continue
        low, high = np.quantile(x, [0.0005, 1.0])
        edges = np.linspace(low, max(high, low + 1e-6), BINS + 1)
        inside = np.clip(x, edges[0], edges[-1])
        counts = {
            name: np.histogram(inside[own], edges, weights=rows.weight[own])[0].tolist()
            for name, own in (("reached", rows.labels == 1), ("not", rows.labels != 1))
        }
        found[output.name] = {"edges": edges.tolist(), **counts}
    return found
