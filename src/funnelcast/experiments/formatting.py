"""Numbers and names as they stand in sentences and cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NONE = "–"


def short(value: float | None, digits: int = 4) -> str:
    """`.6225`; – where there is none."""
    if value is None:
        return NONE
    text = f"{abs(value):.{digits}f}"
    return ("−" if value < 0 else "") + (text.removeprefix("0") if text.startswith("0.") else text)


def signed(value: float | None) -> str:
    """`+.0352`; – where there is none."""
    return NONE if value is None else ("+" if value >= 0 else "−") + short(abs(value))


def mean_and_std_text(found: Mapping[str, Any] | None, digits: int = 4) -> str:
    """`.6225 ± .0003`, of a mean and a deviation; – where there is none."""
    if found is None or found["mean"] is None:
        return NONE
    return short(found["mean"], digits) + (f" ± {short(found['std'], digits)}" if found["std"] is not None else "")


def interval(gain: Mapping[str, Any]) -> str:
    """`+.0352 [+.0300, +.0404]`, of an estimate, low and high."""
    bounds = gain["estimate"] is not None and gain["low"] is not None
    return signed(gain["estimate"]) + (f" [{signed(gain['low'])}, {signed(gain['high'])}]" if bounds else "")


def stacking_of(name: str, share: Mapping[str, Any]) -> str:
    """`43 % of click (log-loss −.00210 ± .00040)`, what trees have of an output and bring on the dev rows."""
    gain = ("−" if share["gain"] >= 0 else "+") + short(abs(share["gain"]), 5)
    return f"{share['trees']:.0%} of {name} (log-loss {gain} ± {short(share['error'], 5)})".replace("%", " %")


def calibration_of(name: str, said: Mapping[str, Any]) -> str:
    """`click affine (log-loss −.00021 ± .00005)`: the map of an output and what it brings on rows left aside."""
    if said["kind"] == "none":
        return f"{name} as it is"
    gain = ("−" if said["gain"] >= 0 else "+") + short(abs(said["gain"]), 5)
    return f"{name} {said['kind']} (log-loss {gain} ± {short(said['error'], 5)})"


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
