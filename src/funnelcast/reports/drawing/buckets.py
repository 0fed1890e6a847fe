"""AUC by how often an id was seen in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from funnelcast.reports.drawing.style import MUTED, SERIES, named


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
