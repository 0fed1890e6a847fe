"""Every fault that the doctor knows, planted in a clean log: it is found, by its name, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.random import Generator

from funnelcast.data_checks.finding import AFTER, ALONE, COPY, DRIFT, IDS, ROWS, TIME, Finding
from tests.data_checks import logs
from tests.data_checks.logs import FEATURES, Log

ROWS_OF_LOG = 3000
Planter = Callable[[Log, Generator], Any]
"""Makes the column of the planted feature `x`."""


def some(rng: Generator, share: float, column: Any) -> Any:
    """`column`, in a share of the rows another row's value."""
    return np.where(rng.random(len(column)) < share, rng.permutation(column), column)


def status(log: Log, _: Generator) -> Any:
    return np.where(log["conversion"] == 1, "bought", np.where(log["click"] == 1, "opened", "shown"))


FEATURE_FAULTS: dict[str, tuple[str, str, Any, Planter]] = {
    "the label": (COPY, "error", "categorical", lambda log, _: log["click"]),
    "the next label": (COPY, "error", "categorical", lambda log, _: log["conversion"]),
    "its negation, nearly": (COPY, "error", "categorical", lambda log, rng: some(rng, 0.005, 1 - log["click"])),
    "as a number": (COPY, "error", "numeric", lambda log, _: 3.0 + 2.5 * log["conversion"]),
    "a status": (COPY, "error", "categorical", status),
    "as lists": (COPY, "error", {"kind": "multi"}, lambda log, _: [[1, 2] if one else [3] for one in log["click"]]),
    "a time on the page": (
        AFTER, "error", "numeric", lambda log, rng: np.where(log["click"], rng.exponential(20, ROWS_OF_LOG), np.nan)
    ),
    "amounts, else 0, in bins": (
        AFTER, "error", {"kind": "numeric", "transform": "bins"},
        lambda log, rng: np.where(log["conversion"], rng.exponential(20, ROWS_OF_LOG), 0.0),
    ),
    "an order, not of all": (
        AFTER, "warning", "categorical",
        lambda log, rng: [f"o{row % 7}" if one and row % 3 == 0 else None for row, one in enumerate(log["click"])],
    ),
    "where the visit ended": (
        AFTER, "error", "categorical",
        lambda log, rng: np.where(log["click"], rng.choice(["shop", "cart", "help"], ROWS_OF_LOG), "our page"),
    ),
    "what was put in a cart": (
        AFTER, "error", {"kind": "sequence"},
        lambda log, rng: [rng.integers(0, 50, 1 + row % 3).tolist() if one else []
                          for row, one in enumerate(log["conversion"])],
    ),
    "a score of the session": (
        ALONE, "warning", "numeric", lambda log, rng: rng.normal(3.8 * log["click"], 1.0)
    ),
    "a score that all but tells": (
        ALONE, "error", "numeric", lambda log, rng: rng.random(ROWS_OF_LOG) - 0.98 * log["click"]
    ),
    "a number far from others where it is clicked": (
        ALONE, "warning", "numeric",
        lambda log, rng: log["click"] * rng.choice([-9, 9], ROWS_OF_LOG) + rng.normal(0, 1, ROWS_OF_LOG),
    ),
    "far above all others": (ALONE, "warning", "numeric", lambda log, rng: rng.normal(2.9 * log["click"], 1.0)),
    "codes of the outcome": (
        ALONE, "error", "categorical", lambda log, rng: 2 * rng.integers(0, 40, ROWS_OF_LOG) + log["click"]
    ),
    "lists with a mark": (
        ALONE, "error", {"kind": "multi"},
        lambda log, rng: [[*rng.integers(0, 30, row % 4).tolist(), 99 + click]
                          for row, click in enumerate(log["click"])],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def findings_of_features(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Finding]]:
    """What is said of one table with all those features, by subject."""
    log, rng = logs.draw(ROWS_OF_LOG), np.random.default_rng(1)
    log |= {name: plant(log, rng) for name, (_, _, _, plant) in FEATURE_FAULTS.items()}
    features = {**FEATURES, **{name: kind for name, (_, _, kind, _) in FEATURE_FAULTS.items()}}
    found: dict[str, list[Finding]] = {}
    for finding in logs.findings(logs.prepared(tmp_path_factory.mktemp("planted"), log, features=features)):
        found.setdefault(finding.subject, []).append(finding)
    return found


@pytest.mark.parametrize("name", FEATURE_FAULTS)
def test_a_feature_that_tells_a_label(name: str, findings_of_features: dict[str, list[Finding]]) -> None:
    check, severity, _, _ = FEATURE_FAULTS[name]
    assert [(each.check, each.severity) for each in findings_of_features[name]] == [(check, severity)]


def test_other_features_are_not_told_of(findings_of_features: dict[str, list[Finding]]) -> None:
    assert set(findings_of_features) == set(FEATURE_FAULTS)


def test_what_is_said_of_them(findings_of_features: dict[str, list[Finding]]) -> None:
    said = {name: found[0].evidence for name, found in findings_of_features.items()}
    assert said["a status"].startswith("it is bought or opened in 100 % of the ")
    assert said["a status"].endswith("others: it says who reached click and conversion, and nothing else")
    assert "one certain list in 100 % of the" in said["as lists"]
    assert (
        "known in 100 % of the" in said["a time on the page"]
        and "that reached click, and" in said["a time on the page"]
    )
    assert "other than 'below" in said["amounts, else 0, in bins"] and "conversion" in said["amounts, else 0, in bins"]
    assert "a list that is not empty in 100 % of the" in said["what was put in a cart"]
    assert "its value alone ranks click with an AUC of 0.9" in said["a score of the session"]
    assert "the next best feature, item, has 0.6" in said["far above all others"]


def halves(rows: int = ROWS_OF_LOG) -> tuple[Log, Log]:
    log = logs.draw(rows)
    cut = 2 * rows // 3
    return logs.take(log, np.arange(cut)), logs.take(log, np.arange(cut, rows))


def with_files(folder: Path, train: Log, test: Log, **schema: Any) -> Any:
    return logs.prepared(folder, train, test, split={"test": 0.0}, **schema)


def test_users_that_train_does_not_know(tmp_path: Path) -> None:
    train, test = halves()
    test["user"] = test["user"] + 100_000
    (found,) = logs.findings(with_files(tmp_path, train, test))
    assert (found.severity, found.check, found.subject) == ("warning", IDS, "user")
    assert found.evidence.startswith("100 % of the 1,000 test rows") and "write the ids alike" in found.advice


def test_some_unknown_users_are_a_note(tmp_path: Path) -> None:
    """As in a log by time, whose newest users are new."""
    train, test = halves()
    test["user"] = np.where(np.arange(1000) % 4 == 0, test["user"] + 100_000, test["user"])
    table = with_files(tmp_path, train, test)
    assert logs.findings_of(table) == [("note", IDS, "user")]
    assert "evaluate --by user" in logs.findings(table)[0].advice


def test_a_split_by_a_key_that_is_a_feature(tmp_path: Path) -> None:
    table = logs.prepared(tmp_path, logs.draw(ROWS_OF_LOG), split={"by": "group", "column": "user"})
    (found,) = logs.findings(table)
    assert (found.severity, found.check, found.subject) == ("warning", IDS, "user")
    assert "the split puts all rows of one user into one part" in found.advice


def test_lists_of_unknown_ids(tmp_path: Path) -> None:
    train, test = halves()
    test["history"] = [[1000 + item for item in own] for own in test["history"]]
    assert logs.findings_of(with_files(tmp_path, train, test)) == [("warning", IDS, "history")]


@pytest.mark.slow
@pytest.mark.parametrize(("copies", "severity"), [(50, "warning"), (300, "error")])
def test_test_rows_that_are_training_rows(copies: int, severity: str, tmp_path: Path) -> None:
    train, test = halves()
    mixed = {name: [*list(test[name]), *list(train[name])[:copies]] for name in test}
    (found,) = logs.findings(with_files(tmp_path, train, mixed))
    assert (found.severity, found.check, found.subject) == (severity, ROWS, "test")


@pytest.mark.parametrize(
    ("features", "copies", "severity"), [("item hour age", 1000, "error"), ("item hour price", 250, "warning")]
)
def test_copies_among_honest_repeats(features: str, copies: int, severity: str, tmp_path: Path) -> None:
    """Where 59 % of the rows have twins by chance, and where 6 % have; in Census 27 % have."""
    log, kinds = logs.draw(9000), {name: FEATURES[name] for name in features.split()}
    train, test = (logs.take(log, np.arange(*rows)) for rows in ((0, 6000), (6000, 9000)))
    mixed = {name: [*list(test[name]), *list(train[name])[:copies]] for name in test}
    assert logs.findings_of(logs.written(tmp_path, {"train": train, "test": test}, features=kinds)) == []
    found = logs.findings_of(logs.written(tmp_path, {"train": train, "test": mixed}, features=kinds))
    assert found == [(severity, ROWS, "test")]


@pytest.mark.slow
@pytest.mark.parametrize("times", [2, 3])
def test_a_log_that_holds_every_row_several_times(times: int, tmp_path: Path) -> None:
    """Before it is split at random: train then repeats as much as test does."""
    log = logs.take(
        logs.draw(ROWS_OF_LOG), np.random.default_rng(2).permutation(np.repeat(np.arange(ROWS_OF_LOG), times))
    )
    found = logs.findings(logs.prepared(tmp_path, log))
    assert [(each.severity, each.check) for each in found] == [("error", ROWS)] * 2
    assert {each.subject for each in found} == {"test", "dev"}
    assert "drop the copies before the log is split" in found[0].advice


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["number", "timestamp", "text"])
def test_a_random_split_of_a_log_with_time(kind: str, tmp_path: Path) -> None:
    log = logs.draw(ROWS_OF_LOG)
    seconds = np.arange(ROWS_OF_LOG) * 60
    times = np.datetime64("2024-03-01T00:00:00") + seconds.astype("timedelta64[s]")
    log["time"] = {"number": seconds, "timestamp": times, "text": times.astype(str)}[kind]
    (found,) = logs.findings(logs.prepared(tmp_path, log, keep=["time"]))
    assert (found.severity, found.check, found.subject) == ("warning", TIME, "test")
    assert ("time 2024-03-0" in found.evidence) == (kind != "number")


@pytest.mark.slow
def test_numbers_of_the_future(tmp_path: Path) -> None:
    """When a user was last seen, over the whole log; of the time before, it is no fault, nor is the end of an offer."""
    log, rng = logs.draw(ROWS_OF_LOG), np.random.default_rng(1)
    log["time"] = np.arange(ROWS_OF_LOG)
    ahead = {"seen": rng.normal(0, 60, ROWS_OF_LOG), "before": -rng.exponential(60, ROWS_OF_LOG), "end": 100.0}
    for name, by in ahead.items():
        log[name] = log["time"] + by
    features = {**FEATURES, **dict.fromkeys(ahead, "numeric")}
    split = {"by": "time", "column": "time", "dev": 0.1, "test": 0.1}
    found = logs.findings_of(logs.prepared(tmp_path, log, keep=["time"], split=split, features=features))
    assert [each for each in found if each[1] == TIME] == [("warning", TIME, "seen")]


DRIFTS: dict[str, Planter] = {
    "price": lambda log, _: log["price"] * 1.7,
    "age": lambda log, rng: rng.integers(40, 80, len(log["age"])).astype(float),
    "item": lambda log, rng: rng.integers(1, 30, len(log["item"])),
    "hour": lambda log, _: log["hour"] % 12,
    "history": lambda log, _: [own[:3] for own in log["history"]],
    "tags": lambda log, _: [[1 + tag % 2 for tag in own] for own in log["tags"]],
}


def test_features_that_are_others_in_test(tmp_path: Path) -> None:
    train, test = halves()
    rng = np.random.default_rng(1)
    test |= {feature: plant(test, rng) for feature, plant in DRIFTS.items()}
    found = logs.findings(with_files(tmp_path, train, test))
    assert [(each.severity, each.check) for each in found] == [("warning", DRIFT)] * len(DRIFTS)
    assert sorted(each.subject for each in found) == sorted(DRIFTS)
    said = {each.subject: each.evidence for each in found}
    assert "the median is" in said["price"] and "a last id of " in said["tags"]


def test_steps_that_are_reached_more_often(tmp_path: Path) -> None:
    train, test = halves()
    test["conversion"] = test["click"]
    (found,) = logs.findings(with_files(tmp_path, train, test))
    assert (found.severity, found.check, found.subject) == ("warning", DRIFT, "conversion")
