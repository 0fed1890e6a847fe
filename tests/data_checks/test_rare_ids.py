"""Rows of ids that became unknown are compared by what they are in the log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funnelcast.data.table import Table
from funnelcast.data_checks.doctor import doctor
from funnelcast.data_checks.finding import ROWS
from tests.data_checks import logs
from tests.data_checks.logs import Log

FEATURES: dict[str, Any] = {"user": {"min_count": 5}, "item": {"min_count": 5}}


def pairs(rows: int = 8000, *, texts: bool = False) -> Log:
    """Rows of distinct pairs of a user and an item. Users come and go, and a fourth of them has few rows, so that a
    test part of the newest rows has more unknown users than train has."""
    rng = np.random.default_rng(3)
    user = np.arange(2 * rows) // 6 + rng.integers(0, 40, 2 * rows) * (rng.random(2 * rows) < 0.75)
    item = rng.integers(0, 60, 2 * rows)
    first = np.sort(np.unique(np.stack([user, item], 1), axis=0, return_index=True)[1])[:rows]
    user, item, click = user[first], item[first], rng.random(rows) < 0.3
    columns = {"user": user, "item": item}
    if texts:
        columns = {name: np.array([f"{name} {value}" for value in values]) for name, values in columns.items()}
    return columns | {"click": click.astype(np.int8), "conversion": (click & (rng.random(rows) < 0.3)).astype(np.int8)}


def by_time(folder: Path, log: Log) -> Table:
    """The newest third of the rows is test."""
    rows, cut = np.arange(len(log["click"])), 2 * len(log["click"]) // 3
    return logs.prepared(folder, logs.take(log, rows[:cut]), logs.take(log, rows[cut:]), features=FEATURES)


def with_copies(log: Log, rows: int) -> Log:
    """The log twice over in its first rows, in a random order."""
    order = np.random.default_rng(4).permutation(np.append(np.arange(len(log["click"])), np.arange(rows)))
    return logs.take(log, order)


def duplicates(table: Table) -> list[str]:
    return [finding.severity for finding in logs.findings(table) if finding.check == ROWS]


def without_hashes(table: Table) -> Table:
    """The table as an older version made it."""
    manifest = table.manifest
    for name in [name for name in manifest["files"] if name.endswith("/unknown.parquet")]:
        del manifest["files"][name]
        (table.folder / name).unlink()
    (table.folder / "manifest.json").write_text(json.dumps(manifest))
    return Table.open(table.folder)


@pytest.mark.slow
@pytest.mark.parametrize("texts", [False, True])
def test_distinct_pairs_are_no_duplicates(texts: bool, tmp_path: Path) -> None:
    """In the table 55 % of the training rows have a twin, and 76 % of the test rows, or 26 and 97 %."""
    for table in (
        logs.prepared(tmp_path / "a", pairs(texts=texts), features=FEATURES),
        by_time(tmp_path / "b", pairs(texts=texts)),
    ):
        assert duplicates(table) == []
        assert not any(ROWS in each for each in doctor(table).not_checked)


def test_copies_of_distinct_pairs_are_found(tmp_path: Path) -> None:
    assert duplicates(logs.prepared(tmp_path, with_copies(pairs(), 4000), features=FEATURES)) == ["error", "error"]


def test_copies_of_rows_of_rare_ids_alone_are_found(tmp_path: Path) -> None:
    """Which nothing but the log tells apart."""
    train, test = (logs.take(pairs(), np.arange(*rows)) for rows in ((0, 5000), (5000, 8000)))
    rare = np.flatnonzero(np.bincount(train["user"])[train["user"]] < 5)[:200]
    assert len(rare) == 200
    mixed = {name: np.concatenate([test[name], train[name][rare]]) for name in test}
    table = logs.prepared(tmp_path, train, mixed, features=FEATURES, split={"test": 0.0, "dev": 0.0})
    assert [each.evidence for each in logs.findings(table) if each.check == ROWS] == [
        "6.2 % of the 3,200 test rows stand in train with the same features and labels; of the training rows, 0 % have "
        "such a twin among the others"
    ]


def test_a_table_that_does_not_hold_them_has_such_rows_left_out(tmp_path: Path) -> None:
    table = without_hashes(logs.prepared(tmp_path / "a", pairs(), features=FEATURES))
    assert duplicates(table) == []
    unknown = (table.part("test").ids == 0).any(1)
    (said,) = [each for each in doctor(table).not_checked if " test rows" in each]
    assert said.startswith(f"{ROWS}: {100 * unknown.mean():.1f} % of the {len(unknown):,} test rows have an id that is")
    copied = logs.prepared(tmp_path / "b", with_copies(pairs(), 4000), features=FEATURES)
    assert duplicates(without_hashes(copied)) == ["error", "error"], "the other rows are compared"


def test_the_hashes_are_no_part_of_the_protocol(tmp_path: Path) -> None:
    table = logs.prepared(tmp_path, pairs(500), features=FEATURES)
    columns = [file["sha256"] for name, file in table.manifest["files"].items() if name.endswith(".bin")]
    assert table.manifest["protocol"]["fingerprint"] == table.schema.fingerprint(columns)
    assert {f"{part}/unknown.parquet" for part in table.manifest["rows"]} <= table.manifest["files"].keys()
