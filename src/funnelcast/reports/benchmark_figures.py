"""The figures of a benchmark."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from statistics import fmean
from typing import Any

from funnelcast.benchmarks.markdown import figure
from funnelcast.experiments.formatting import repeats
from funnelcast.reports.benchmark_tables import truth_of
from funnelcast.reports.conclusion import ALPHA, outputs_of
from funnelcast.reports.drawing.row_charts import Dot, paint_dots
from funnelcast.reports.drawing.style import height_of, named
from funnelcast.reports.drawing.svg import Picture, in_a_row, picture
from funnelcast.reports.run_folder import BenchmarkRun

AUCS = (
    "Dot: mean over {}; upright strokes: each of them; bar: 95 % interval for other test rows, in the mean of them. "
    "Bars may overlap and the models still differ, for all saw the same rows: judge differences by the gains."
)
GAINS = (
    "Dot: mean AUC minus the reference's; bar: 95 % interval of the {}. Filled: p < .05 after Holm's correction. A bar "
    "across 0 says that neither is known to be better."
)


def benchmark_figures(run: BenchmarkRun) -> Iterator[Picture]:
    """AUCs and gains of every output."""
    outputs = outputs_of(run.results)
    yield from in_a_row(_aucs(run, o, "" if i else AUCS.format(repeats(run.results))) for i, o in enumerate(outputs))
    known = [o for o in outputs if any(o in model["gains"] for model in run.results["models"].values())]
    caption = GAINS.format(truth_of(run.results))
    yield from in_a_row(_gains(run.results, o, "" if i else caption) for i, o in enumerate(known))


def _aucs(run: BenchmarkRun, output: str, caption: str) -> Picture:
    results = run.results
    models, base, truth = results["models"], results["reference"], results.get("true_model") or {}
    dots = [_auc(name, model, output, run.aucs.get(name, {}).get(output, [])) for name, model in models.items()]
    own = figure(models[base], output, "auc")
    lines = {"reference": own["mean"]} if own is not None and own["mean"] is not None else {}
    if output in truth and truth[output]["auc"]["estimate"] is not None:
        lines["true probabilities"] = truth[output]["auc"]["estimate"]
    paint = partial(paint_dots, dots=dots, label=f"AUC {output}", lines=lines)
    return picture(f"auc-{output}", f"AUC of {output} by model", caption, paint, height_of(len(dots)) + 0.2)


def _auc(name: str, model: Mapping[str, Any], output: str, seeds: list[dict[str, Any]]) -> Dot:
    found = figure(model, output, "auc")
    if found is None or found["mean"] is None:
        return Dot(name, math.nan)
    bounds = [(each["low"], each["high"]) for each in seeds if each["low"] is not None]
    low, high = (fmean(side) for side in zip(*bounds, strict=True)) if bounds else (math.nan, math.nan)
    return Dot(name, found["mean"], low, high, tuple(found["values"]), is_filled=True)


def _gains(results: Mapping[str, Any], output: str, caption: str) -> Picture:
    base = results["reference"]
    dots = [_gain(name, model["gains"].get(output)) for name, model in results["models"].items() if name != base]
    paint = partial(paint_dots, dots=dots, label=f"gain over {named(base)}", zero=0.0, signs=True)
    return picture(f"gain-{output}", f"Gain in AUC of {output} over {base}", caption, paint, height_of(len(dots)))


def _gain(name: str, gain: Mapping[str, Any] | None) -> Dot:
    if gain is None or gain["estimate"] is None:
        return Dot(name, math.nan)
    low, high = (math.nan if gain[key] is None else gain[key] for key in ("low", "high"))
    is_significant = gain["p_adjusted"] is not None and gain["p_adjusted"] < ALPHA
    return Dot(name, gain["estimate"], low, high, is_filled=is_significant)
