"""Shares and values of features as they stand in findings."""

from __future__ import annotations

from typing import Any

from funnelcast.data.encoder import Encoder
from funnelcast.data.numeric import Bins, Standard
from funnelcast.schema.funnel import Funnel, Output


def percent(share: float) -> str:
    """Of a share in [0, 1]; never 0 or 100 where it is neither."""
    if share in (0, 1):
        return f"{100 * share:.0f} %"
    if min(share, 1 - share) < 5e-5:
        return "under 0.01 %" if share < 0.5 else "over 99.99 %"
    digits = 1 if 0.001 <= share <= 0.999 else 2
    return f"{100 * share:.{digits}f} %"


def percent_range(low: float, high: float) -> str:
    """Of an interval of shares."""
    return f"{percent(low).removesuffix(' %')} – {percent(high)}"


def output_name(output: Output, funnel: Funnel) -> str:
    """`conversion`, or `conversion given click`."""
    step = funnel.names[output.step]
    return step if output.given is None else f"{step} given {funnel.names[output.given]}"


def raw_value(encoder: Encoder, feature: str, raw: Any) -> str:
    """What an id or a scaled number of a feature, or an id of its lists, stands for in the log; empty for what is
    missing or unknown, of scaled numbers the mean too.
    """
    if not raw:
        return ""
    transform = encoder.numbers.get(feature)
    if isinstance(transform, Standard):
        return f"{float(raw) * transform.std + transform.mean:.6g}"
    if isinstance(transform, Bins):
        return _interval(transform, int(raw))
    return str(encoder.vocabularies[encoder.schema.vocabulary(feature)].values[int(raw) - 1])


def _interval(transform: Bins, bin_: int) -> str:
    """The numbers of a bin, 1 the first."""
    edges = transform.edges
    if not edges:
        return "any number"
    if bin_ == 1:
        return f"below {edges[0]:.6g}"
    return f"{edges[-1]:.6g} or more" if bin_ > len(edges) else f"{edges[bin_ - 2]:.6g} to {edges[bin_ - 1]:.6g}"
