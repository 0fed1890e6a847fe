"""Where the predicted probabilities lie, of rows that reached a step and of those that did not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from funnelcast.reports.drawing.style import LINES, SERIES, legend, plain_steps

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
