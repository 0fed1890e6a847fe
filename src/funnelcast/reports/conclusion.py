"""What a benchmark says, in sentences that its numbers bear."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from funnelcast.experiments.formatting import listing, p_text, repeats, short, signed

ALPHA = 0.05
"""Level of significance."""
FEW = 50
"""Positives under which an interval is rough."""
OFF = 0.2
"""Observed over predicted that is further from 1 makes probabilities that must be mended before use."""


class Conclusion(NamedTuple):
    """Of an output, or of all where `output` is empty."""

    output: str
    sentences: list[str]


def outputs_of(results: Mapping[str, Any]) -> list[str]:
    """What is measured, in order."""
    return list(next((m["figures"] for m in results["models"].values() if m["figures"]), {}))


def conclude(results: Mapping[str, Any]) -> list[Conclusion]:
    """By output, then what limits all of it."""
    found = [Conclusion(output, list(_of_output(results, output))) for output in outputs_of(results)]
    if not found:
        found = [Conclusion("", ["No run is finished, so there is nothing to conclude."])]
    limits = list(_limits(results))
    return [*found, *([Conclusion("", limits)] if limits else [])]


def headline(results: Mapping[str, Any]) -> str:
    """Who is ahead, where, and significantly of how many of the others."""
    bests = {o: best_of(results, o) for o in outputs_of(results)}
    known = {output: best for output, best in bests.items() if best is not None}
    leaders = list(dict.fromkeys(best.model for best in known.values()))
    sentences = []
    for leader in leaders:
        own = {output: best for output, best in known.items() if best.model == leader}
        counts: dict[str, list[str]] = {}
        for output, best in own.items():
            counts.setdefault(f"{sum(map(best.beats, best.p)) or 'none'} of {len(best.p)} others", []).append(output)
        significant = listing([f"over {count} on {listing(names)}" for count, names in counts.items()])
        sentences.append(f"{leader} has the highest mean AUC of {listing(list(own))}; significantly {significant}.")
    return " ".join(sentences)


def _of_output(results: Mapping[str, Any], output: str) -> Iterator[str]:
    models, base = results["models"], results["reference"]
    yield from _collapsed(models, output)
    best = best_of(results, output)
    if best is None:
        yield "No model has an AUC: the test rows are of one class."
        return
    is_base = " (the reference)" if best.model == base else ""
    yield f"The highest mean AUC is that of {best.model}{is_base}, {short(best.auc)}."
    yield from _against_the_best(models, best, output)
    if best.model != base:
        yield from _over_the_reference(models, base, output)
    yield from _cheapest(models, best)
    yield from _power(models, output)
    yield from _probabilities(models, output)


def _collapsed(models: Mapping[str, Any], output: str) -> Iterator[str]:
    for name, model in models.items():
        for seed, text in list(model.get("warnings", {}).get(output, {}).items())[:1]:
            yield f"WARNING: {name}, seed {seed}: {text}."


def _against_the_best(models: Mapping[str, Any], best: Best, output: str) -> Iterator[str]:
    open_, lower = ([n for n in best.p if best.beats(n) == apart] for apart in (False, True))
    unsteady = [name for name in open_ if _is_far(models, best, output, name)]
    level = [name for name in open_ if name not in unsteady]
    if level:
        yield f"Not significantly different from it: {listing(level)}. Their order among each other means nothing."
    if unsteady:
        names = [f"{name} (± {short(models[name]['figures'][output]['auc']['std'])})" for name in unsteady]
        yield f"Lower, but their repeats differ too much for significance; more would decide: {listing(names)}."
    if lower:
        yield f"Significantly lower (p < .05, corrected for the number of models): {listing(lower)}."


def _is_far(models: Mapping[str, Any], best: Best, output: str, model: str) -> bool:
    """Whether a model whose repeats agree would differ significantly if it were as low."""
    least, auc = _smallest(models, output), models[model]["figures"][output]["auc"]
    return bool(least) and auc["std"] is not None and best.auc - auc["mean"] > least[0]


def _over_the_reference(models: Mapping[str, Any], base: str, output: str) -> Iterator[str]:
    gains = {name: model["gains"][output] for name, model in models.items() if output in model["gains"]}
    if not gains:
        yield f"The reference, {base}, has no finished run, so there are no gains over it."
        return
    significant = {name: g for name, g in gains.items() if g["p_adjusted"] is not None and g["p_adjusted"] < ALPHA}
    ahead = [_gain_text(name, gain) for name, gain in significant.items() if gain["estimate"] > 0]
    behind = [_gain_text(name, gain) for name, gain in significant.items() if gain["estimate"] < 0]
    yield f"Ahead of {base} with p < .05: {listing(ahead)}." if ahead else f"No model is ahead of {base} with p < .05."
    if behind:
        yield f"Behind {base} with p < .05: {listing(behind)}."
    open_ = [name for name in gains if name not in significant]
    if open_:
        yield f"Neither significantly ahead nor behind: {listing(open_)}."


def _gain_text(name: str, gain: Mapping[str, Any]) -> str:
    p = p_text(gain["p_adjusted"])
    return f"{name} ({signed(gain['estimate'])}, p {p if p.startswith('<') else f'= {p}'})"


def _cheapest(models: Mapping[str, Any], best: Best) -> Iterator[str]:
    level = [best.model, *(name for name in best.p if not best.beats(name))]
    seconds = {name: models[name]["cost"]["seconds"]["mean"] for name in level if models[name]["cost"]}
    if len(seconds) > 1:
        name = min(seconds, key=lambda each: seconds[each])
        yield (
            f"Of the best and those not significantly different from it, {name} takes least "
            f"time: {seconds[name]:,.0f} s a run."
        )


def _power(models: Mapping[str, Any], output: str) -> Iterator[str]:
    if known := _smallest(models, output):
        least, most = short(known[0]), short(known[-1])
        more = f"; for the least steady model that is {most}" if known[-1] > 1.5 * known[0] and most != least else ""
        yield f"A true difference under {least} would be missed more often than one time in five{more}."


def _smallest(models: Mapping[str, Any], output: str) -> list[float]:
    """Differences that gains over the reference would show four times in five, from the least on."""
    found = [m["gains"][output]["smallest"] for m in models.values() if output in m["gains"]]
    return sorted(value for value in found if value is not None)


def _probabilities(models: Mapping[str, Any], output: str) -> Iterator[str]:
    figures = {name: model["figures"][output] for name, model in models.items() if output in model["figures"]}
    off = [name for name, found in figures.items() if _off(found["observed_over_predicted"]["values"])]
    if off:
        yield f"Probabilities off by more than 20 % in the mean, in one repeat or more: {listing(off)}."
    useless = [n for n, f in figures.items() if (e := f["normalised_entropy"]["mean"]) is not None and e >= 1]
    if useless:
        yield f"By log-loss no better than the rate alone (normalised entropy 1 or more): {listing(useless)}."


def _off(ratios: Sequence[float | None]) -> bool:
    return any(ratio is not None and abs(ratio - 1) > OFF for ratio in ratios)


def _limits(results: Mapping[str, Any]) -> Iterator[str]:
    models = results["models"]
    what, seeds = repeats(results), [len(model["seeds"]) for model in models.values() if model["seeds"]]
    if seeds and min(seeds) == 1:
        yield f"A model has but one of the {what}: what others would give is not in its interval."
    elif seeds and min(seeds) < 3:
        yield f"With {min(seeds)} {what} it is little known how much training varies, so intervals are wide."
    failed = {name: len(model["failed"]) for name, model in models.items() if model["failed"]}
    if failed:
        names = listing([f"{name} ({count})" for name, count in failed.items()])
        yield f"Runs failed and are in no figure: {names}."
    absent = [name for name, model in models.items() if not model["seeds"] and not model["failed"]]
    if absent:
        yield f"Not run yet: {listing(absent)}."
    for output in outputs_of(results):
        positives = next(m["figures"][output]["positives"] for m in models.values() if m["figures"])
        if positives < FEW:
            yield f"{output} has {positives:,} positives among the test rows; its intervals are rough."


@dataclass(frozen=True)
class Best:
    """The highest mean AUC of an output, and the p-values of others being lower."""

    model: str
    auc: float
    p: dict[str, float | None]
    """Of the other models, corrected for their number; none where a gain has no interval."""

    def beats(self, model: str) -> bool:
        """Return whether the AUC of `model` is significantly lower."""
        p = self.p.get(model)
        return p is not None and p < 0.05


def best_of(results: Mapping[str, Any], output: str) -> Best | None:
    """The best of an output; none where no model has an AUC."""
    found = results["best"].get(output)
    if found is None:
        return None
    mean = results["models"][found["model"]]["figures"][output]["auc"]["mean"]
    return Best(found["model"], mean, {name: gain["p_adjusted"] for name, gain in found["others"].items()})
