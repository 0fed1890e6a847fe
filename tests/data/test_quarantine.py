"""The quarantine: a file of bad rows, and a limit."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from funnelcast.data.quarantine import Quarantine
from funnelcast.errors import QuarantineError


def test_no_bad_row_no_file(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("of an earlier run")
    with Quarantine(tmp_path / "q.csv") as quarantine:
        quarantine.check(0)
    assert not (tmp_path / "q.csv").exists() and quarantine.count == 0


def test_bad_rows_are_listed_as_they_are(tmp_path: Path) -> None:
    with Quarantine(tmp_path / "new" / "q.csv", limit=1) as quarantine:
        quarantine.add(Path("/data/a.csv"), 7, "too few", 'x,"y"\nz')
        quarantine.add(Path("/data/b.csv"), 8, "too few", "é" * 5000)
        quarantine.check(2)
    with (tmp_path / "new" / "q.csv").open(newline="", encoding="utf-8") as file:
        head, first, second = csv.reader(file)
    assert head == ["file", "line", "reason", "text"]
    assert first == ["a.csv", "7", "too few", 'x,"y"\nz']
    assert len(second[3]) == 2000
    assert quarantine.reasons == {"too few": 2}


def test_the_limit_is_a_share_and_the_error_says_where_they_are(tmp_path: Path) -> None:
    with Quarantine(tmp_path / "q.csv", limit=0.01) as quarantine:
        quarantine.add(Path("a"), 1, "odd", "")
        quarantine.check(100)
        quarantine.add(Path("a"), 2, "even", "")
        with pytest.raises(QuarantineError) as raised:
            quarantine.check(100)
        assert (tmp_path / "q.csv").read_text().count("\n") == 3  # readable before the run ends
    message = str(raised.value)
    assert "2 of 100 rows are bad" in message and "1 × odd, 1 × even" in message
    assert str(tmp_path / "q.csv") in message and "--max-bad" in message
