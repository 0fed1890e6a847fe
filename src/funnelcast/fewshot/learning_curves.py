"""Learning curves of the few-shot protocol, as SVG and PNG."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from funnelcast.data.files import new_file
from funnelcast.evaluation.auc import Interval
from funnelcast.evaluation.rows import Floats

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6b6b6b", "#000000")
"""Okabe and Ito's, which the colour-blind can distinguish."""
LEADER = {"arrowstyle": "-", "linewidth": 1.2, "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 3}
INK, PALE = "#222222", "#dddddd"
LEAST_SHARE = 0.8
"""The axis goes as far below 0 as this times the top: hopeless methods leave the picture."""
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "path",  # letters are drawn: a file that needs no font
    "svg.hashsalt": "funnelcast",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": INK,
    "text.color": INK,
}


def draw_curves(
    curves: Mapping[str, Sequence[Interval]],
    sizes: Sequence[int],
    stem: Path,
    *,
    title: str,
    rows: str,
    over: str,
    ceiling: str | None = None,
) -> list[Path]:
    """Write `stem`.svg and `stem`.png of the gain by support size, with bands of their intervals, one colour a method.

    `curves`: by method and size the gain in nats per row over another method, which is called `over`; `rows`: what the
    sizes are of; `ceiling`: the method that nothing can be better than, dashed. Returns the paths.
    """
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(7.6, 4.4), layout="constrained", facecolor="white")
        axes = figure.subplots()
        xs = _xs(sizes)
        ends = {}
        for (name, gains), colour in zip(_ordered(curves, ceiling).items(), _colours(curves, ceiling), strict=True):
            ends[name] = (_curve(axes, xs, gains, colour, is_ceiling=name == ceiling), colour)
        axes.set_ylim(*_limits(curves, ceiling))
        axes.set_xlim(xs[0] - 0.3, xs[-1] + 0.2)
        _dress(axes, xs, sizes, title=title, rows=rows, over=over)
        _label(axes, xs[-1], ends)
        return [_save(figure, stem.with_suffix(kind)) for kind in (".svg", ".png")]


def _xs(sizes: Sequence[int]) -> Floats:
    """Sizes on a logarithmic axis; 0 a step to the left of the first other one."""
    logs = [math.log2(size) for size in sizes if size]
    step = float(np.median(np.diff(logs))) if len(logs) > 1 else 1.0
    return np.array([math.log2(size) if size else logs[0] - step for size in sizes])


def _ordered(curves: Mapping[str, Sequence[Interval]], ceiling: str | None) -> dict[str, Sequence[Interval]]:
    return {name: curves[name] for name in sorted(curves, key=lambda name: name == ceiling)}


def _colours(curves: Mapping[str, Sequence[Interval]], ceiling: str | None) -> list[str]:
    methods = len(curves) - (ceiling in curves)
    return [COLOURS[i % (len(COLOURS) - 1)] for i in range(methods)] + [COLOURS[-1]] * (len(curves) - methods)


def _curve(axes: Axes, xs: Floats, gains: Sequence[Interval], colour: str, *, is_ceiling: bool) -> float:
    """Returns where it ends."""
    middle, low, high = (np.array([getattr(gain, name) for gain in gains]) for name in ("estimate", "low", "high"))
    axes.plot(xs, middle, color=colour, linestyle="--" if is_ceiling else "-", marker="o", markersize=3.5)
    if not is_ceiling:
        axes.fill_between(xs, low, high, color=colour, alpha=0.13, linewidth=0)
    return float(middle[-1])


def _limits(curves: Mapping[str, Sequence[Interval]], ceiling: str | None) -> tuple[float, float]:
    """With all gains and their bands."""
    estimates = [gain.estimate for gains in curves.values() for gain in gains if math.isfinite(gain.estimate)]
    bands = [gain.high for name, gains in curves.items() if name != ceiling for gain in gains if gain.estimate >= 0]
    top = 1.05 * max([*estimates, *filter(math.isfinite, bands), 1e-6])
    bottom = max(1.15 * min([*estimates, 0.0]), -LEAST_SHARE * top)
    return min(bottom, -0.04 * top), top


def _dress(axes: Axes, xs: Floats, sizes: Sequence[int], *, title: str, rows: str, over: str) -> None:
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xticks(xs, [f"{size:,}" for size in sizes])
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(f"support: {rows} of the new task")
    axes.set_ylabel(f"log-loss saved over {over}, nats a row")
    axes.set_title(title, loc="left", fontsize=10)


def _label(axes: Axes, x: float, ends: Mapping[str, tuple[float, str]]) -> None:
    """Names at the ends of the curves, moved apart; those that have left the picture say so."""
    bottom, top = axes.get_ylim()
    gap = (top - bottom) * 0.052
    ends = dict(sorted(ends.items(), key=lambda item: item[1]))
    heights = {name: min(max(y, bottom), top) for name, (y, _) in ends.items()}
    placed = _apart(list(heights.values()), gap, top)
    for (name, (end, colour)), y in zip(ends.items(), placed, strict=True):
        text = f"{name} (below: {end:.2g})" if end < bottom else name
        axes.annotate(
            text,
            xy=(x, heights[name]),
            xytext=(x + 0.35, y),
            va="center",
            annotation_clip=False,
            arrowprops={"color": colour, **LEADER},
        )


def _apart(ideal: Sequence[float], gap: float, top: float) -> list[float]:
    """Rising heights, at least `gap` apart, as near to the `ideal` ones as a pass up and one down make them."""
    heights = list(ideal)
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + gap)
    heights[-1:] = [min(height, top) for height in heights[-1:]]
    for i in range(len(heights) - 2, -1, -1):
        heights[i] = min(heights[i], heights[i + 1] - gap)
    return heights


def _save(figure: Figure, path: Path) -> Path:
    with new_file(path) as partial:
        kind = path.suffix.removeprefix(".")
        figure.savefig(partial, format=kind, dpi=160, metadata=_METADATA[kind])
        if kind == "svg":
            text = re.sub(r"<!DOCTYPE[^>]*>\s*|<metadata>.*?</metadata>\s*", "", partial.read_text(), flags=re.DOTALL)
            partial.write_text(text)
    return path


_METADATA: dict[str, dict[str, str | None]] = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}
"""Nothing that differs from run to run, and no address."""
