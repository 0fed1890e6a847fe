"""Which models of a benchmark are told apart from the best one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Best:
    """The highest mean AUC of an output, and how sure it is that others are lower."""

    model: str
    auc: float
    p: dict[str, float | None]
    """Of the other models, corrected for their number; none where a gain has no interval."""

    def is_apart(self, model: str) -> bool:
        """Whether a model is lower for sure."""
        p = self.p.get(model)
        return p is not None and p < 0.05


def best_of(results: Mapping[str, Any], output: str) -> Best | None:
    """The best of an output; none where no model has an AUC."""
    found = results["best"].get(output)
    if found is None:
        return None
    mean = results["models"][found["model"]]["figures"][output]["auc"]["mean"]
    return Best(found["model"], mean, {name: gain["p_adjusted"] for name, gain in found["others"].items()})
