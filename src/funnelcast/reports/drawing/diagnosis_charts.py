"""Predicted against observed rates, where predicted probabilities lie, and AUC by how often an id was seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from funnelcast.evaluation.rows import Floats
from funnelcast.reports.drawing.style import LINES, MARKERS, MUTED, PLAIN, SERIES, legend, named, plain_steps

SMALL = 0.1
"""Rates that are mostly below this stand on logarithmic axes."""
MOST = 5
"""Groups beside all rows, these before calibration among them."""

Group = Mapping[str, Any]


def paint_calibration(axes: Axes, groups: Sequence[Group]) -> None:
    """All rows with intervals, then groups of them as lines."""
    groups = sorted(groups, key=lambda group: group["group"] is not None)[: MOST + 1]
    every = np.array([bin_["predicted"] for group in groups for bin_ in group["bins"]], np.float64)
    is_log = bool(len(every)) and float(np.median(every)) < SMALL and bool(every.min() > 0)
    low, high = _limits(groups, is_log)
    axes.plot([low, high], [low, high], color=MUTED, linewidth=1, linestyle=(0, (4, 2)))
    for i, group in enumerate(groups):
        _group(axes, group, i, low)
    across = (0.8 * float(every.min()), 1.25 * float(every.max())) if is_log else (low, high)
    if is_log:
        axes.loglog()
        _logarithmic(axes.xaxis, *across)
        _logarithmic(axes.yaxis, low, high)
    axes.set(xlim=across, ylim=(low, high), xlabel="predicted rate", ylabel="observed rate")
    axes.grid()
    if len(groups) > 1:
        legend(axes)


def _logarithmic(axis: XAxis | YAxis, low: float, high: float) -> None:
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 30 * low else (1, 3) if high < 300 * low else (1,)))
    axis.set_major_formatter(PLAIN)
    axis.set_minor_locator(NullLocator())


def _limits(groups: Sequence[Group], is_log: bool) -> tuple[float, float]:
    """With every bin and the intervals of all rows; 0 is not on logarithmic axes."""
    bins = [bin_ for group in groups for bin_ in group["bins"]]
    values = [bin_[key] for bin_ in bins for key in ("predicted", "observed")]
    values += [bin_[key] for bin_ in bins if bin_.get("low") is not None for key in ("low", "high")]
    if not is_log:
        return 0.0, min(1.0, 1.05 * max([*values, 0.01]))
    least = min(bin_["predicted"] for bin_ in bins)
    above = [value for value in values if value > least / 10]
    return 0.8 * min(above), min(1.0, 1.25 * max(above))


def _group(axes: Axes, group: Group, i: int, bottom: float) -> None:
    bins = group["bins"]
    predicted = np.array([bin_["predicted"] for bin_ in bins], np.float64)
    observed = np.array([bin_["observed"] for bin_ in bins], np.float64)
    colour, marker = SERIES[i % len(SERIES)], MARKERS[i % len(MARKERS)]
    label = "all rows" if group["group"] is None else named(str(group["group"]))
    if group["group"] is None:
        low, high = (_bounds(bins, key, observed) for key in ("low", "high"))
        axes.vlines(predicted, np.maximum(low, bottom), np.maximum(high, bottom), color=colour, linewidth=1.2)
    inside, width = np.maximum(observed, bottom), 1.3 if group["group"] is None else 0.8
    axes.plot(predicted, inside, color=colour, marker=marker, linestyle=LINES[i % len(LINES)], label=label, lw=width)
    none = observed < bottom
    axes.plot(predicted[none], inside[none], linestyle="", marker="v", markersize=8, color=colour, clip_on=False)


def _bounds(bins: Sequence[Mapping[str, Any]], key: str, default: Floats) -> Floats:
    given = [value if (value := bin_.get(key)) is not None else np.nan for bin_ in bins]
    bounds = np.array(given, np.float64)
    return np.where(np.isnan(bounds), default, bounds)


ROUND = ((1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9))
"""First digits of ticks, from few to many, where there are too few whole decades."""
TINY, SLACK = 1e-9, 4e-4
"""How far below and above the ends, in log10, a tick may stand."""


def ticks_of(low: float, high: float) -> list[float]:
    """Round probabilities between two, three or more of them; all as log10, as p may be less than a float can be."""
    whole = range(math.ceil(low - TINY), math.floor(high + SLACK) + 1)
    if len(whole) >= 3:
        return [float(decade) for decade in whole[:: math.ceil(len(whole) / 7)]]
    decades = range(math.floor(low), math.ceil(high) + 1)
    for digits in ROUND:
        ticks = [d + math.log10(digit) for d in decades for digit in digits]
        inside = [tick for tick in ticks if low - TINY <= tick <= high + SLACK]
        if len(inside) >= 3:
            return inside[:: math.ceil(len(inside) / 7)]
    return [low, (low + high) / 2, high]


def label_of(tick: float) -> str:
    """The probability with this log10."""
    decade = math.floor(tick + TINY)
    if decade < -300:
        return f"{10 ** (tick - decade):.2g}e{decade}"
    return plain_steps(float(f"{10**tick:.2g}"))


def paint_scores(axes: Axes, edges: Sequence[float], reached: Sequence[float], missed: Sequence[float]) -> None:
    """Share of either class's rows by bin of log10 p."""
    for i, (label, counts) in enumerate({"reached": reached, "did not": missed}.items()):
        shares = np.array(counts, np.float64) / (sum(counts) or 1)
        axes.stairs(shares, edges, color=SERIES[i], linewidth=1.5, linestyle=LINES[i], label=label)
        axes.stairs(shares, edges, color=SERIES[i], fill=True, alpha=0.15, linewidth=0)
    ticks = ticks_of(edges[0], edges[-1])
    axes.set_xticks(ticks, [label_of(tick) for tick in ticks])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.set_ylim(0)
    axes.set_xlabel("predicted probability")
    axes.set_ylabel("share of rows")
    axes.grid(axis="y")
    legend(axes)


def paint_buckets(axes: Axes, buckets: Sequence[Mapping[str, Any]]) -> None:
    """A dot with its interval for each bucket, with rows and positives below; none where there are too few for an
    interval."""
    for place, bucket in enumerate(buckets):
        if bucket.get("low") is not None:
            axes.plot([place, place], [bucket["low"], bucket["high"]], color=SERIES[0], linewidth=1.6)
            axes.plot(place, bucket["auc"], marker="o", markersize=6, color=SERIES[0])
        else:
            axes.annotate("too few", (place, 0.5), ha="center", va="bottom", fontsize=8, color=MUTED)
    axes.axhline(0.5, color=MUTED, linewidth=1, linestyle=(0, (4, 2)))
    labels = [f"{named(b['name'])}\n{_count(b['rows'])} rows\n{_count(b['positives'])} pos." for b in buckets]
    axes.set_xticks(range(len(buckets)), labels)
    axes.set_xlim(-0.5, len(buckets) - 0.5)
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel("AUC")
    axes.grid(axis="y")


def _count(number: int) -> str:
    """`1,234`, `56k`, `7.8M`."""
    if number < 10_000:
        return f"{number:,}"
    return f"{number / 1e3:,.0f}k" if number < 1_000_000 else f"{number / 1e6:,.1f}M"
