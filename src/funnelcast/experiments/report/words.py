"""Numbers and names as they stand in sentences and cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from funnelcast.experiments.benchmark.markdown import interval, spread

__all__ = ["NONE", "interval", "listing", "number", "p_text", "repeats", "short", "signed", "spread"]

NONE = "–"


def short(value: float | None, digits: int = 4) -> str:
    """`.6225`; – where there is none."""
    sign = "−" if value is not None and value < 0 else ""
    return sign + spread({"mean": None if value is None else abs(value), "std": None}, digits)


def signed(value: float | None) -> str:
    """`+.0352`."""
    return interval({"estimate": value, "low": None, "high": None})


def p_text(value: float | None) -> str:
    """Of a probability; – where there is none."""
    return NONE if value is None else "< .001" if value < 0.001 else short(value, 3)


def number(value: Any, digits: int = 0, scale: float = 1) -> str:
    """`1,234.5`; – where there is none."""
    return NONE if value is None else f"{value / scale:,.{digits}f}"


def repeats(results: Mapping[str, Any]) -> str:
    """What a benchmark's figures vary over."""
    return "seeds" if results.get("splits") is None else "random splits"


def listing(names: Sequence[str]) -> str:
    """`A, B and C`."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)
