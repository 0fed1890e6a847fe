"""Predicted against observed rates, with the diagonal that good probabilities lie on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.ticker import LogLocator, NullLocator

from funnelcast.evaluation.rows import Floats
from funnelcast.reports.drawing.style import LINES, MARKERS, MUTED, PLAIN, SERIES, legend, named

SMALL = 0.1
"""Rates that are mostly below this stand on logarithmic axes."""
MOST = 4
"""Groups beside all rows."""

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
