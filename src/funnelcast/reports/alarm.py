"""What stands above everything else in a report: outputs that have collapsed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from funnelcast.experiments.words import listing


def alarm_of_run(results: Mapping[str, Any]) -> str:
    """Of one training run's results, the test rows first; empty where all is well."""
    said: dict[str, str] = {}
    for part in sorted(results, key=lambda part: part != "test"):
        for name, metrics in results[part].items():
            for text in metrics.get("warnings", ()):
                said.setdefault(name, f"On the {part} rows {text}.")
    return " ".join(["WARNING.", *said.values()]) if said else ""


def alarm_of_models(results: Mapping[str, Any]) -> str:
    """Of a benchmark's results: which models have collapsed where, and in how many repeats."""
    said = []
    for name, model in results["models"].items():
        outputs = [
            f"{output} ({len(texts)} of {len(model['seeds'])})" for output, texts in model.get("warnings", {}).items()
        ]
        said += [f"{name} in {listing(outputs)}"] if outputs else []
    if not said:
        return ""
    why = "constant, ranked below chance, or of a log-loss worse than the constant rate's, beyond noise"
    return f"WARNING. Collapsed outputs, with the repeats in which they are {why}: {'; '.join(said)}."
