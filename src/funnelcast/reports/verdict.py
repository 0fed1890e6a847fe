"""What one training run says, in sentences that its numbers bear; outputs that have collapsed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from funnelcast.experiments.formatting import calibration_of, listing, short, stacking_of
from funnelcast.reports.conclusion import FEW, OFF, Conclusion


def judge(results: Mapping[str, Any], epochs: Sequence[Mapping[str, Any]]) -> list[Conclusion]:
    """By output of the test part, or of what there is; then how training went."""
    part = "test" if "test" in results else next(iter(results), "")
    found = [Conclusion(name, list(_of_output(part, metrics))) for name, metrics in results.get(part, {}).items()]
    progress = list(_progress(epochs))
    return [*found, *([Conclusion("", progress)] if progress else [])]


def _of_output(part: str, metrics: Mapping[str, Any]) -> Iterator[str]:
    auc, rows, positives = metrics["auc"], metrics["rows"], metrics["positives"]
    if auc["estimate"] is None:
        yield f"No AUC on the {part} rows: {auc.get('note') or 'undefined'}."
        return
    yield from (f"WARNING: {text}." for text in metrics.get("warnings", ()))
    bounds = "" if auc["low"] is None else f" [{short(auc['low'])}, {short(auc['high'])}]"
    yield f"AUC {short(auc['estimate'])}{bounds} over {rows:,} {part} rows, {positives:,} of them positive."
    if auc["low"] is not None and auc["low"] <= 0.5 <= auc["high"]:
        yield "The interval holds .5: it is not shown that the model ranks better than chance."
    if share := metrics.get("stacking"):
        own = f"Boosted trees have {stacking_of('it', share)} on the dev rows"
        yield f"{own}." if share["trees"] else "Boosted trees next to the network bring nothing, and have no share."
    if (said := metrics.get("calibration")) and said["kind"] != "none":
        yield f"Calibrated on rows that no training used: {calibration_of('it is', said)}."
    if positives < FEW:
        yield "With so few positives the interval is rough, or there is none."
    if metrics["normalised_entropy"] is not None and metrics["normalised_entropy"] >= 1:
        yield "By log-loss it is no better than the rate alone (normalised entropy 1 or more)."
    yield from (f"The model's {text}." for text in metrics.get("baselines", {}).get("says", ()))
    ratio = metrics["observed_over_predicted"]
    if ratio is not None and abs(ratio - 1) > OFF:
        yield f"Probabilities are too {'low' if ratio > 1 else 'high'}: {short(ratio, 2)} observed for 1 predicted."


def _progress(epochs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    kept = [place for place, epoch in enumerate(epochs, 1) if epoch.get("is_best")]
    if kept:
        late = kept[-1] == len(epochs)
        more = "; the last one, so more epochs may bring more" if late and len(epochs) > 1 else ""
        yield f"Parameters are those of epoch {kept[-1]} of {len(epochs)}, the best on the dev rows{more}."


def collapsed_in_run(results: Mapping[str, Any]) -> str:
    """Of one training run's results, the test rows first; empty where all is well."""
    said: dict[str, str] = {}
    for part in sorted(results, key=lambda part: part != "test"):
        for name, metrics in results[part].items():
            for text in metrics.get("warnings", ()):
                said.setdefault(name, f"On the {part} rows {text}.")
    return " ".join(["WARNING.", *said.values()]) if said else ""


def collapsed_in_models(results: Mapping[str, Any]) -> str:
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
