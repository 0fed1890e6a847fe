"""Rows of dots with bars: AUCs, gains, cosines, attention. Rows of bars: the use of experts, the time of a step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes

from funnelcast.reports.drawing.style import INK, MUTED, SERIES, legend, rows_of


class Dot(NamedTuple):
    """A value with its interval; NaN where there is none."""

    name: str
    value: float
    low: float = math.nan
    high: float = math.nan
    seeds: tuple[float, ...] = ()
    """The values that it is the mean of."""
    is_filled: bool = False
    """Filled; others are rings."""
    inner: tuple[float, float] | None = None
    """A second, thick bar."""


def paint_dots(
    axes: Axes,
    dots: Sequence[Dot],
    *,
    label: str,
    lines: Mapping[str, float] | None = None,
    zero: float | None = None,
    signs: bool = False,
) -> None:
    """A row for each dot; `lines`: dashed verticals by name; `zero`: a solid one; `signs`: a colour of its own for what
    is below it."""
    rows_of(axes, [dot.name for dot in dots])
    axes.set_xlabel(label)
    if zero is not None:
        axes.axvline(zero, color=INK, linewidth=0.9)
    for (name, place), style in zip((lines or {}).items(), ((0, (4, 2)), (0, (1, 1.5))), strict=False):
        axes.axvline(place, color=MUTED, linewidth=1.2, linestyle=style, label=name)
    if lines:
        legend(axes)
    for place, dot in enumerate(dots):
        below = signs and zero is not None and dot.value < zero
        _row(axes, place, dot, SERIES[1] if below else SERIES[0], "s" if below else "o")


def _row(axes: Axes, place: int, dot: Dot, colour: str, marker: str) -> None:
    if math.isfinite(dot.low):
        axes.plot([dot.low, dot.high], [place, place], color=colour, linewidth=1.6)
    if dot.inner:
        axes.plot(dot.inner, [place, place], color=colour, linewidth=4.5)
    if len(dot.seeds) > 1:
        axes.plot(dot.seeds, [place] * len(dot.seeds), linestyle="", marker="|", markersize=8, color=INK)
    if math.isfinite(dot.value):
        face = colour if dot.is_filled else "none"
        axes.plot(
            dot.value, place, marker=marker, markersize=6, markeredgewidth=1.5, color=colour, markerfacecolor=face
        )
    else:
        axes.annotate("none", (0.01, place), xycoords=("axes fraction", "data"), va="center", color=MUTED, fontsize=8)


def paint_bars(
    axes: Axes, names: Sequence[str], values: Sequence[float], texts: Sequence[str], *, label: str, even: bool = False
) -> None:
    """A bar for each name, with its text beside the axes; `even`: a dashed line where equal parts of 1 would end."""
    rows_of(axes, list(names))
    axes.barh(range(len(values)), values, height=0.62, color=SERIES[0])
    top = max([*values, 1e-12])
    where: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "xytext": (4, 0), "textcoords": "offset points"}
    for place, text in enumerate(texts):
        axes.annotate(text, (1.0, place), va="center", fontsize=8, **where)
    if even and values:
        axes.axvline(1 / len(values), color=INK, linewidth=1, linestyle=(0, (4, 2)))
    axes.set_xlim(0, 1.04 * top)
    axes.set_xlabel(label)
