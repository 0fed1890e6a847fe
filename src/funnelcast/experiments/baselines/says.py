"""What is said of a model that is not above a baseline."""

from __future__ import annotations

import math
from collections.abc import Iterator

from funnelcast.evaluation.auc import Interval
from funnelcast.experiments.words import short, signed


def says(auc: Interval, loss: Interval, best: str) -> Iterator[str]:
    """Where the intervals are known and the model is not above the baseline."""
    if not math.isnan(auc.low) and auc.low <= 0:
        how = "below" if auc.high < 0 else "not shown to be above"
        yield f"AUC is {how} that of {best}: {_signed(auc, 4)}"
    if not math.isnan(loss.low) and loss.high >= 0:
        how = "worse" if loss.low > 0 else "not shown to be better"
        yield f"log-loss is {how} than that of {best}: {_signed(loss, 5)}"


def _signed(interval: Interval, digits: int) -> str:
    """`+.0352 [+.0300, +.0404]`."""
    low, high = (signed(value) if digits == 4 else _long(value) for value in interval[1:3])
    return f"{signed(interval.estimate) if digits == 4 else _long(interval.estimate)} [{low}, {high}]"


def _long(value: float) -> str:
    return ("+" if value >= 0 else "−") + short(abs(value), 5)
