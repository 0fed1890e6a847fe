"""How all figures of a report look, and their colours: roles here, which each theme gives a colour of its own."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from io import StringIO
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

WIDTH = 3.75
"""Inches: a phone shows it as large as it is."""
INK, MUTED, PALE = "#010101", "#020202", "#030303"
SERIES = ("#040401", "#040402", "#040403", "#040404", "#040405", "#040406")
"""Colours that stand for roles; `svg` replaces them."""
LIGHT = dict(
    zip(
        (INK, MUTED, PALE, *SERIES),
        ("#1b1f24", "#57606a", "#d5d9de", "#0b63a5", "#b84a00", "#00775a", "#9a4583", "#7d5a00", "#57606a"),
        strict=True,
    )
)
"""Of a figure that stands alone on white: near Okabe and Ito's, which the colour-blind can distinguish, but darker."""
MARKERS = "osD^vP"
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
LONGEST = 24
"""Letters of a name in a figure."""
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "funnelcast",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "grid.color": PALE,
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
}

Paint = Callable[[Axes], None]


def raw_svg(paint: Paint, height: float) -> str:
    """What `paint` puts on axes of `height` inches, as matplotlib writes it, without date or address."""
    with mpl.rc_context(SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # the browser has other fonts
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        figure.patch.set_visible(False)
        axes = figure.subplots()
        axes.patch.set_visible(False)
        paint(axes)
        text = StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return text.getvalue()


def named(name: str) -> str:
    """A name that is no wider than a figure has room for."""
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def rows_of(axes: Axes, names: list[str]) -> None:
    """A row for each name, the first on top."""
    axes.set_yticks(range(len(names)), [named(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5, min_n_ticks=3))


def height_of(rows: int) -> float:
    """Inches that so many rows want."""
    return 0.62 + 0.235 * max(rows, 2)


def plain_steps(value: float, _: int = 0) -> str:
    """Ticks of a logarithmic axis."""
    return f"{value:g}" if value >= 1e-4 else f"{value:.0e}"


PLAIN = FuncFormatter(plain_steps)


def legend(axes: Axes) -> None:
    """Above the axes, where it hides nothing, to their right end: names of rows leave them little width."""
    axes.legend(loc="lower right", bbox_to_anchor=(1.02, 1.0), ncols=2, handlelength=2.2, columnspacing=1.2)
