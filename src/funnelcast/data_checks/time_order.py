"""Test rows earlier than training rows, and numbers that were made of later rows."""

from __future__ import annotations

import numpy as np

from funnelcast.data.encoder import Encoder
from funnelcast.data.numeric import Standard
from funnelcast.data_checks import words
from funnelcast.data_checks.finding import TIME, Finding
from funnelcast.data_checks.reading import Column
from funnelcast.data_checks.times import Times

LEAST = 0.01
"""Share of the rows that is reported."""
TRACKS = 0.9
"""Correlation with the time of its row above which a number is taken for a time."""
ROUNDING = 1e-5
"""Of the span of the times, as tables hold scaled numbers in 32 bits."""


def time_order(times: Times, part: str) -> Finding | None:
    """Rows of a part that are earlier than the last training row."""
    train, there = (own[~np.isnan(own)] for own in (times.by_part["train"], times.by_part[part]))
    if not len(train) or not len(there):
        return None
    early, late = float((there < train.max()).mean()), float((train > there.min()).mean())
    if early < LEAST:
        return None
    return Finding(
        TIME,
        part,
        "warning",
        f"{words.percent(early)} of the {len(there):,} {part} rows are earlier than the last training row, "
        f"{times.column} {times.text(train.max())}, and {words.percent(late)} of the training rows are later than the "
        f"first {part} row, {times.text(there.min())}: the model learns from the future of the rows it is judged on",
        f'split by time: [split] by = "time", column = "{times.column}"',
    )


def of_the_future(column: Column, encoder: Encoder, times: Times) -> Finding | None:
    """A number that goes along with the time of its row and is later in some of the rows; what is later in all of them,
    as the end of an offer, may well be known before.
    """
    transform = encoder.numbers.get(column.name)
    if not times.is_number or not isinstance(transform, Standard):
        return None
    time = times.by_part["train"][column.sample.rows]
    known = (column.raw != 0) & ~np.isnan(time)  # 0 is missing
    time, own = time[known], column.raw[known].astype(np.float64) * transform.std + transform.mean
    if len(time) < 20 or not time.std() or not own.std() or np.corrcoef(time, own)[0, 1] < TRACKS:
        return None
    later = float((own > time + ROUNDING * np.ptp(time)).mean())
    if not LEAST <= later < 0.999:
        return None
    return Finding(
        TIME,
        column.name,
        "warning",
        f"it goes along with {times.column}, the time of the row, and is later in {words.percent(later)} of "
        f"{len(time):,} training rows: it seems to be made of what came after",
        f"make it of what was known at {times.column}, or take it out of [features]",
    )
