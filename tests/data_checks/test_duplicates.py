"""Rows that are compared of large parts."""

from __future__ import annotations

import numpy as np
import pytest

from funnelcast.data.columns import Columns
from funnelcast.data.progress import silent
from funnelcast.data_checks import duplicates
from funnelcast.data_checks.comparable_rows import Compared
from funnelcast.data_checks.duplicates import hash_parts


def part(rows: int) -> Compared:
    ids = np.arange(rows, dtype=np.int32)[:, None]
    return Compared(Columns(ids, np.zeros((rows, 0), np.float32), {}, np.zeros((rows, 1), np.uint8)))


def test_of_equal_rows_all_are_kept_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what repeats is as frequent among those that are kept; memory holds no more."""
    monkeypatch.setattr(duplicates, "MOST_HASHES", 3000)
    monkeypatch.setattr(duplicates, "CHUNK", 700)
    done: list[int] = []
    hashed = hash_parts(
        {"train": part(8000), "test": part(2000)},
        frozenset(),
        lambda stage, rows, total, unit, note="": done.append(rows),
    )
    assert (hashed["train"].total, hashed["test"].total) == (8000, 2000)
    assert abs(len(hashed["train"]) - 8000 / 3) < 200
    assert np.isin(hashed["test"].rows, hashed["train"].rows).all()
    assert (
        len(hashed["test"])
        == np.isin(hash_parts({"x": part(2000)}, frozenset(), silent)["x"].rows, hashed["train"].rows).sum()
    )
    assert done[-1] == 10_000 and done == sorted(done)
