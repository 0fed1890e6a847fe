"""Which part a row belongs to: by chance, by key, or by time.

Chance is a hash (MD5 of seed and row position, or of seed and key): the same on every engine, for any order of work.
"""

from __future__ import annotations

import math
from typing import Any

import ibis
import numpy as np

from funnelcast.data.log.engine import Engine
from funnelcast.data.log.sources import ROW
from funnelcast.schema.dataset import Split

_DIGITS = 13  # hex digits of the hash that are used: 52 bits


def remaining(split: Split, *, has_dev: bool, has_test: bool) -> Split | None:
    """The split of a training source beside which a dev or test file is given; none where nothing is left to split."""
    left = split.model_copy(update={"dev": 0.0 if has_dev else split.dev, "test": 0.0 if has_test else split.test})
    return left if left.dev or left.test else None


def assign(engine: Engine, rows: Any, good: Any, split: Split) -> Any:
    """Part (`train`, `dev`, `test`) of each of `rows`; times are ranked among `good` rows only."""
    if split.by == "time":
        return _by_time(engine, as_time(rows[split.column]), as_time(good[split.column]), split)
    return _by_hash(rows[ROW if split.by == "random" else split.column], split)


def _by_hash(key: Any, split: Split) -> Any:
    digest = (ibis.literal(f"{split.seed}:") + key.cast("string")).hexdigest("md5").substr(0, _DIGITS)
    in_test, in_dev = digest < _threshold(split.test), digest < _threshold(split.test + split.dev)
    return ibis.cases((in_test, "test"), (in_dev, "dev"), else_="train")


def _threshold(share: float) -> str:
    return format(round(share * 16**_DIGITS), f"0{_DIGITS}x")


def _by_time(engine: Engine, time: Any, good: Any, split: Split) -> Any:
    """The latest rows are test, those before them dev; equal times stay together, in the later part."""
    total = int(engine.fetch(good.count()).as_py())
    firsts = {"test": _first_rank(total, split.test), "dev": _first_rank(total, split.test + split.dev)}
    found = _at_ranks(engine, good, sorted({rank for rank in firsts.values() if rank < total}))
    branches = [(time >= found[rank], part) for part, rank in firsts.items() if rank < total]
    return ibis.cases(*branches, else_="train") if branches else ibis.literal("train")


def _first_rank(total: int, share: float) -> int:
    """Rank from 0 of the earliest of the latest `share` of the rows; `total` where that is no row."""
    return total - math.ceil(round(share * total, 6))


def _at_ranks(engine: Engine, column: Any, ranks: list[int]) -> dict[int, Any]:
    """The values at ranks (from 0, ascending) among the non-null values, found in one pass over the sorted counts."""
    found: dict[int, Any] = {}
    below = 0
    for batch in engine.stream(value_counts(column)):
        ends = below + np.cumsum(batch.column("n").to_numpy())
        below = int(ends[-1])
        for rank in ranks[len(found) :]:
            if rank < below:
                value = batch.column("value")[int(np.searchsorted(ends, rank, side="right"))].as_py()
                found[rank] = ibis.literal(value, type=column.type())
    return found


def value_counts(column: Any) -> Any:
    """(value, n) ascending by value, without null."""
    table = column.name("value").as_table()
    table = table.filter(table.value.notnull())
    return table.group_by("value").aggregate(n=table.count()).order_by("value")


def as_time(column: Any) -> Any:
    """A column that orders rows in time: numbers as they are, times and ISO texts as UTC, null where unreadable."""
    kind = column.type()
    if kind.is_string():
        return column.try_cast("timestamp('UTC', 6)").cast("timestamp(6)")
    return column.cast("timestamp(6)") if kind.is_temporal() else column
