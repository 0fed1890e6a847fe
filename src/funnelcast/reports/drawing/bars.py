"""Rows of bars: the use of experts, the time of a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from funnelcast.reports.drawing.style import INK, SERIES, rows_of


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
