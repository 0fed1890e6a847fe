"""Which kept column is the time of a row, and how it is read."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funnelcast.data_checks.time_order import Times, find_times
from tests.data_checks import logs

DAY = 86_400e6


def times(folder: Path, column: str, values: list[Any], **schema: Any) -> Times | None:
    log = {**logs.take(logs.draw(30), np.arange(len(values))), column: values}
    return find_times(logs.written(folder, {"train": log}, keep=[column], features={"item": {}}, **schema), ["train"])


@pytest.mark.parametrize(
    ("values", "days"),
    [
        (["2024-02-01", "2024-02-02", None], [19754, 19755, np.nan]),
        (["2024-02-01T12:00:00", "2024-02-02 00:00:00", None], [19754.5, 19755, np.nan]),
        (["2024-02-01T01:00:00+01:00", "2024-02-02T00:00:00Z", None], [19754, 19755, np.nan]),
        ([date(2024, 2, 1), date(2024, 2, 2), None], [19754, 19755, np.nan]),
        ([datetime(2024, 2, 1, 12), datetime(2024, 2, 2), None], [19754.5, 19755, np.nan]),
    ],
)  # fmt: skip
def test_times_are_read(values: list[Any], days: list[float], tmp_path: Path) -> None:
    found = times(tmp_path, "Date", values)
    assert found is not None and not found.is_number
    assert np.array_equal(found.by_part["train"] / DAY, days, equal_nan=True)
    assert found.text(19754 * DAY) == "2024-02-01" and found.text(19754.5 * DAY) == "2024-02-01 12:00:00"


def test_numbers_are_times_by_their_name_or_their_split(tmp_path: Path) -> None:
    found = times(tmp_path, "ts", [3, 4, None])
    assert found is not None and found.is_number and found.text(3.0) == "3"
    assert times(tmp_path, "rank", [3, 4, None]) is None
    assert times(tmp_path, "rank", [3, 4, None], split={"by": "time", "column": "rank"}) is not None


@pytest.mark.parametrize("values", [["01/02/2024", "2024-02-01"], [[1], [2]], [True, False]])
def test_what_is_no_time(values: list[Any], tmp_path: Path) -> None:
    assert times(tmp_path, "time", values) is None


def test_no_column_is_kept(tmp_path: Path) -> None:
    assert find_times(logs.written(tmp_path, {"train": logs.draw(30)}), ["train"]) is None
