"""The state of a server in figures that a person reads."""

from __future__ import annotations

import math
from typing import Any

from funnelcast.server.metrics import Metrics, summed
from funnelcast.server.scorers import Scorers
from funnelcast.server.shadow import Shadow


async def status_of(scorers: Scorers, metrics: Metrics, shadow: Shadow | None) -> dict[str, Any]:
    """What the server serves, and shares, means and shifts over the last rows."""
    said: dict[str, Any] = {
        "ready": scorers.description is not None,
        "queue": scorers.waiting,
        "served": metrics.served,
        "failed": metrics.failed,
        "latency_ms": metrics.latency(),
        "shadow": None if shadow is None else shadow.figures(),
    }
    if scorers.description is None:
        return said
    said |= {name: scorers.description[name] for name in ("name", "version", "model", "steps", "deltas", "key")}
    figures = summed(await scorers.figures())
    rows = figures.get("rows", 0)
    return said | {
        "total": figures.get("total", 0),
        "rows": rows,
        "missing": _shares(figures.get("missing", {}), rows),
        "unknown": _shares(figures.get("unknown", {}), rows),
        "outputs": {name: _of_output(name, figures, rows) for name in scorers.description["columns"]},
        "log": figures.get("log"),
    }


def _shares(counts: dict[str, int], rows: int) -> dict[str, float | None]:
    return {name: count / rows if rows else None for name, count in counts.items()}


def _of_output(name: str, figures: dict[str, Any], rows: int) -> dict[str, Any]:
    expected = figures.get("expected", {}).get(name)
    return {
        "mean": figures["sums"][name] / rows if rows else None,
        "expected_mean": None if expected is None else expected["mean"],
        "psi": None if expected is None else stability_index(expected["shares"], figures["counts"].get(name, [])),
    }


def stability_index(expected: list[float], counts: list[int]) -> float | None:
    """The population stability index of rows in bins against the shares that were expected: Σ (a − e) ln(a / e), >= 0,
    with half a row added to each bin; none without rows. Above 0.25 a population has changed, by custom."""
    total = sum(counts)
    if not total:
        return None
    own = [(count + 0.5) / (total + 0.5 * len(counts)) for count in counts]
    least = 0.5 / (total + 0.5 * len(counts))
    pairs = [(a, max(e, least)) for a, e in zip(own, expected, strict=True)]
    return sum((a - e) * math.log(a / e) for a, e in pairs)
