"""Figures by epoch: AUC on dev rows, training loss, weights of the steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from funnelcast.reports.drawing.style import LINES, MARKERS, MUTED, PLAIN, SERIES, legend, named

Curves = Mapping[str, Sequence[float]]


def paint_curves(
    axes: Axes,
    curves: Curves,
    *,
    label: str,
    stages: Mapping[int, str],
    kept: Sequence[int] = (),
) -> None:
    """A line for each name over epochs 1, 2, …; `stages`: names by the epoch they begin after; `kept`: epochs whose
    parameters were. Logarithmic where values are of several sizes."""
    for i, (name, values) in enumerate(curves.items()):
        _curve(axes, name, values, i, kept)
    for begins, name in stages.items():
        if begins:
            axes.axvline(begins + 0.5, color=MUTED, linewidth=0.8, linestyle=":")
        if len(stages) > 1:
            axes.margins(y=0.15)
            _stage(axes, begins, name)
    axes.set_xlim(0.5, max(map(len, curves.values())) + 0.5)
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.grid(axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    every = [value for values in curves.values() for value in values if math.isfinite(value)]
    if min(every) > 0 and max(every) > 10 * min(every):
        _logarithmic(axes)
    legend(axes)


def _stage(axes: Axes, begins: int, name: str) -> None:
    where: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "xytext": (3, -2), "textcoords": "offset points"}
    axes.annotate(named(name), (begins + 0.5, 1.0), va="top", fontsize=7.5, color=MUTED, **where)


def _curve(axes: Axes, name: str, values: Sequence[float], i: int, kept: Sequence[int]) -> None:
    epochs = range(1, len(values) + 1)
    colour, marker, line = SERIES[i % len(SERIES)], MARKERS[i % len(MARKERS)], LINES[i % len(LINES)]
    axes.plot(epochs, values, color=colour, marker=marker, linestyle=line, label=named(name), markersize=3.5)
    best = [place for place in kept if math.isfinite(values[place - 1])]
    rings: dict[str, Any] = {"markersize": 9, "markerfacecolor": "none", "markeredgewidth": 1.2}
    axes.plot(best, [values[place - 1] for place in best], linestyle="", marker="o", color=colour, **rings)


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(PLAIN)
    axes.yaxis.set_minor_locator(NullLocator())
