"""Tables at the edge of what can be examined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funnelcast.data_checks import column, duplicates, sample
from funnelcast.data_checks.doctor import doctor
from funnelcast.data_checks.finding import AFTER, ALONE, COPY, DRIFT, ROWS
from funnelcast.errors import TableError
from tests.data_checks import logs
from tests.data_checks.logs import FEATURES, Log


def few(rows: int = 600, **columns: Any) -> dict[str, Log]:
    log = logs.draw(rows)
    return logs.parted({**log, **columns}, 0)


def test_labels_of_one_class(tmp_path: Path) -> None:
    never = np.zeros(600, np.int8)
    report = doctor(logs.written(tmp_path, few(click=never, conversion=never)))
    assert report.findings == () and report.is_clean
    for name in ("click", "conversion", "conversion given click"):
        assert f"{ALONE}: {name} has under 10 rows of a class in half of the training rows" in report.not_checked


def test_train_alone(tmp_path: Path) -> None:
    """Leaks are found all the same."""
    log = logs.draw(600)
    log["x"] = log["click"]
    report = doctor(logs.written(tmp_path, {"train": log}, features={**FEATURES, "x": "categorical"}))
    assert [(each.check, each.subject) for each in report.findings] == [(COPY, "x")]
    assert report.not_checked[-1].endswith("the table has no test and no dev rows")


def test_dev_where_there_is_no_test(tmp_path: Path) -> None:
    parts = logs.parted(logs.draw(3000), 0)
    dev = {**parts["test"], "price": parts["test"]["price"] * 2}
    assert logs.findings_of(logs.written(tmp_path, {"train": parts["train"], "dev": dev})) == [
        ("warning", DRIFT, "price")
    ]


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_handful_of_rows(rows: int, tmp_path: Path) -> None:
    log = logs.draw(30)
    train, test = logs.take(log, np.arange(rows)), logs.take(log, np.arange(20, 20 + rows))
    assert doctor(logs.written(tmp_path, {"train": train, "test": test}, keep=["hour"])).findings == ()


def test_features_that_hold_nothing(tmp_path: Path) -> None:
    """Missing in every row, the same in every row, lists that are empty."""
    columns: Log = {
        "none": np.full(600, np.nan), "one": np.ones(600), "nobody": [None] * 600, "lists": [[]] * 600,
        "binned": np.full(600, np.nan),
    }  # fmt: skip
    kinds = {"none": "numeric", "one": "numeric", "nobody": "categorical", "lists": {"kind": "sequence"}}
    features = {**kinds, "binned": {"kind": "numeric", "transform": "bins"}}
    log = {**logs.draw(600), **columns}
    assert logs.findings_of(logs.prepared(tmp_path, log, features=features)) == []


def test_a_single_feature(tmp_path: Path) -> None:
    """It may tell much: there is none to compare it with."""
    log, rng = logs.draw(3000), np.random.default_rng(1)
    log["score"] = rng.normal(2.9 * log["click"], 1.0)
    assert logs.findings_of(logs.written(tmp_path, logs.parted(log, 0), features={"score": "numeric"})) == []
    two = {"score": "numeric", "hour": "categorical"}
    assert logs.findings_of(logs.written(tmp_path, logs.parted(log, 0), features=two)) == [("warning", ALONE, "score")]
    twice = {"score": "numeric", "again": {"kind": "numeric", "column": "score"}, "hour": "categorical"}
    found = logs.findings_of(logs.written(tmp_path, logs.parted(log, 0), features=twice))
    assert found == [("warning", ALONE, "score"), ("warning", ALONE, "again")]


def test_few_positives_are_no_proof(tmp_path: Path) -> None:
    """Twelve clicks a half that a number happens to part perfectly."""
    log, rng = logs.draw(1000), np.random.default_rng(1)
    click = np.zeros(1000, np.int8)
    click[rng.permutation(1000)[:30]] = 1
    log |= {"click": click, "conversion": 0 * click, "x": rng.random(1000) + click}
    assert (
        logs.findings_of(logs.written(tmp_path, {"train": log}, features={"x": "numeric", "hour": "categorical"})) == []
    )


def test_a_mark_of_a_rare_step_is_no_proof(tmp_path: Path) -> None:
    """A coupon that half of the buyers have, and one in 250 others: a quarter of those who have one do not buy."""
    log, rng = logs.draw(10_000), np.random.default_rng(1)
    log["click"] = (rng.random(10_000) < 0.02).astype(np.int8)
    log["coupon"] = (rng.random(10_000) < np.where(log["click"], 0.5, 0.004)).astype(int)
    features = {"coupon": "categorical", "hour": "categorical"}
    assert logs.findings_of(logs.written(tmp_path, {"train": log}, funnel="click", features=features)) == []


def test_a_status_that_tells_most_of_a_class_may_be_honest(tmp_path: Path) -> None:
    """As the family status in Census, by which 64 % of those who never married are known for certain. Had the others a
    value that says that there is nothing, it would be a warning."""
    log, rng = logs.draw(3000, click_rate=0.5), np.random.default_rng(1)
    child = (log["click"] == 1) & (rng.random(3000) < 0.64)
    for none, found in (("not in universe", []), ("none", [("warning", AFTER, "family")])):
        log["family"] = np.where(child, rng.choice(["both parents", "mother", "father"], 3000), none)
        features = {**FEATURES, "family": "categorical"}
        assert logs.findings_of(logs.written(tmp_path, logs.parted(log, 0), features=features)) == found


def test_many_labels_are_not_told_by_ids_of_one_row(tmp_path: Path) -> None:
    """Nearly every row has labels of its own, of which its id is a function, as of anything."""
    log, rng = logs.draw(80), np.random.default_rng(1)
    log |= {name: rng.integers(0, 2, 80) for name in "abcdefghijklmn"} | {"user": np.arange(80)}
    features = {"user": "categorical"}
    table = logs.written(tmp_path, logs.parted(log, 0), funnel="; ".join("abcdefghijklmn"), features=features)
    assert logs.findings_of(table) == []


def test_labels_that_were_not_observed(tmp_path: Path) -> None:
    """A copy is found among the rows that have the label, and rows without it count for nothing."""
    log, rng = logs.draw(1500), np.random.default_rng(1)
    copy, hidden = log["conversion"].copy(), rng.random(1500) < 0.5
    log["conversion"] = [None if hide else int(label) for hide, label in zip(hidden, copy, strict=True)]
    log["x"] = np.where(hidden, rng.integers(0, 2, 1500), copy)
    features = {**FEATURES, "x": "categorical"}
    assert logs.findings_of(logs.written(tmp_path, logs.parted(log, 0), features=features)) == [("error", COPY, "x")]


def test_rows_without_weight_count_for_nothing(tmp_path: Path) -> None:
    """Nor do features that leak in them alone; with no weight at all, every row counts."""
    log = logs.draw(1500)
    log["weight"] = (np.arange(1500) % 2).astype(float)
    log["x"] = np.where(log["weight"] == 0, np.where(log["click"], np.arange(1500), np.nan), np.nan)
    parts, features = logs.parted(log, 0), {**FEATURES, "x": "numeric"}
    assert logs.findings_of(logs.written(tmp_path, parts, features=features, weight="weight")) == []
    for part in parts.values():
        part["weight"] = np.zeros(len(part["weight"]))
    assert logs.findings_of(logs.written(tmp_path, parts, features=features, weight="weight")) == [
        ("warning", AFTER, "x")
    ]


def test_weights_that_undo_sampling(tmp_path: Path) -> None:
    """Train has a fifth of the rows without a click, at five times the weight: rates and features are those of test."""
    log = logs.draw(12_000)
    log["weight"] = np.ones(12_000)
    train, test = (logs.take(log, np.arange(*rows)) for rows in ((0, 9000), (9000, 12_000)))
    kept = np.flatnonzero((train["click"] == 1) | (np.arange(9000) % 5 == 0))
    train = logs.take(train, kept)
    train["weight"] = np.where(train["click"] == 1, 1.0, 5.0)
    assert logs.findings_of(logs.written(tmp_path, {"train": train, "test": test}, weight="weight")) == []
    found = logs.findings_of(logs.written(tmp_path, {"train": train, "test": test}))
    assert found == [("warning", DRIFT, "click"), ("warning", DRIFT, "conversion")]


@pytest.mark.parametrize(
    "funnel", ["click; conversion", "click; cart after click; like after click; conversion after cart"]
)
def test_other_funnels(funnel: str, tmp_path: Path) -> None:
    log = logs.draw(1500)
    log["cart"], log["like"] = log["conversion"] | (log["click"] * (np.arange(1500) % 2)), log["click"]
    log["like"] = log["click"] * (np.arange(1500) % 3 == 0)
    log["x"], log["seconds"] = 1 - log["conversion"], np.where(log["click"], np.arange(1500), 0)
    features = {**FEATURES, "x": "categorical", "seconds": "numeric"}
    found = logs.findings_of(logs.written(tmp_path, logs.parted(log, 0), funnel=funnel, features=features))
    assert found == [("error", COPY, "x"), ("error", AFTER, "seconds")]


@pytest.mark.slow
def test_large_parts_are_looked_at_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of long lists fewer rows still, of duplicates one in some hashes; faults are found all the same."""
    train, test = logs.draw(9000), logs.draw(4000, seed=1)
    mixed: Log = {name: [*list(test[name]), *list(train[name])[:2000]] for name in test}
    for part in (train, mixed):
        part["x"], part["late"] = part["click"], [[1, 2] if click else [] for click in part["click"]]
    monkeypatch.setattr(sample, "MOST_ROWS", 3000)
    monkeypatch.setattr(sample, "BLOCK", 64)
    monkeypatch.setattr(column, "MOST_IDS", 4000)
    monkeypatch.setattr(duplicates, "MOST_HASHES", 2000)
    monkeypatch.setattr(duplicates, "CHUNK", 1000)
    features = {**FEATURES, "x": "categorical", "late": {"kind": "sequence"}}
    report = doctor(logs.written(tmp_path, {"train": train, "test": mixed}, features=features))
    assert [(each.check, each.subject) for each in report.findings] == [(COPY, "x"), (COPY, "late"), (ROWS, "test")]
    assert report.rows["train"] == {"looked_at": 46 * 64, "all": 9000}
    assert report.rows["test"]["all"] == 6000


def test_what_is_no_table_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="is not a folder"):
        doctor(tmp_path / "none")
    table = logs.written(tmp_path, few(60))
    (table.folder / "test/ids.bin").write_bytes(b"")
    with pytest.raises(TableError, match="differs from its checksum"):
        doctor(table.folder)
