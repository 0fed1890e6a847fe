"""Where the predicted probabilities lie, of rows that reached a step and of those that did not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from funnelcast.experiments.report.drawing.style import LINES, SERIES, legend, plain_steps

ROUND = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9))
"""First digits of ticks, from few to many."""


def ticks_of(low: float, high: float) -> list[float]:
    """Round probabilities between two, three or more of them."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ROUND:
        inside = [tick for d in decades for digit in digits if low <= (tick := digit * 10.0**d) <= high * 1.001]
        if len(inside) >= 3:
            return inside if len(inside) <= 7 else inside[:: math.ceil(len(inside) / 7)]
    return [low, math.sqrt(low * high), high]


def paint_scores(axes: Axes, edges: Sequence[float], reached: Sequence[float], missed: Sequence[float]) -> None:
    """Share of either class's rows by bin of log10 p."""
    for i, (label, counts) in enumerate({"reached": reached, "did not": missed}.items()):
        shares = np.array(counts, np.float64) / max(sum(counts), 1)
        axes.stairs(shares, edges, color=SERIES[i], linewidth=1.5, linestyle=LINES[i], label=label)
        axes.stairs(shares, edges, color=SERIES[i], fill=True, alpha=0.15, linewidth=0)
    ticks = ticks_of(10 ** edges[0], 10 ** edges[-1])
    axes.set_xticks(np.log10(ticks), [plain_steps(float(f"{tick:.2g}")) for tick in ticks])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.set_ylim(0)
    axes.set_xlabel("predicted probability")
    axes.set_ylabel("share of rows")
    axes.grid(axis="y")
    legend(axes)
