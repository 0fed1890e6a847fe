"""How the reference of a benchmark on several data sets stands next to the best of the other models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class Standing(NamedTuple):
    """How the reference stands on an output of a data set, next to the best of the other models."""

    source: str
    output: str
    rows: int
    positives: int
    aucs: dict[str, float | None]
    """Mean over the seeds, by model."""
    best: str | None
    """The other model with the highest mean AUC."""
    gain: dict[str, Any] | None
    """Of the reference over that one: estimate, low, high, p_adjusted."""


def standings(results: Mapping[str, Any]) -> Iterator[Standing]:
    """By data set and output. Results have the gain of the other model over the reference; this is its negative."""
    base = results["reference"]
    for source, own in results["sets"].items():
        models = own["models"]
        for output, figures in next((m["figures"] for m in models.values() if m["figures"]), {}).items():
            aucs = {name: _auc(models.get(name), output) for name in results["models"]}
            known = {name: auc for name, auc in aucs.items() if auc is not None and name != base}
            best = max(known, key=lambda name: known[name], default=None)
            gain = models[best]["gains"].get(output) if best is not None else None
            yield Standing(
                source, output, figures["rows"], figures["positives"], aucs, best, _negated(gain) if gain else None
            )


def _auc(model: Mapping[str, Any] | None, output: str) -> float | None:
    found = (model or {"figures": {}})["figures"].get(output)
    return None if found is None else found["auc"]["mean"]


def _negated(gain: Mapping[str, Any]) -> dict[str, Any]:
    low, high, estimate = (None if gain[key] is None else -gain[key] for key in ("high", "low", "estimate"))
    return {"estimate": estimate, "low": low, "high": high, "p_adjusted": gain["p_adjusted"]}
