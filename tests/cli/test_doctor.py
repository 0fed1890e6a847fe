"""`funnelcast doctor`: what it says, and the code that it ends with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.calls import call
from tests.cli.test_main import loads, refused
from tests.data_checks import logs
from tests.data_checks.logs import FEATURES


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return logs.prepared(tmp_path_factory.mktemp("clean"), logs.draw(600), name="tiny").folder


@pytest.fixture(scope="module")
def leaking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with an error, a warning and a note."""
    log = logs.draw(3000)
    log["status"] = np.where(log["click"], "clicked", "shown")
    train, test = (logs.take(log, np.arange(*rows)) for rows in ((0, 2000), (2000, 3000)))
    test |= {"price": test["price"] * 2, "user": np.where(np.arange(1000) % 4 == 0, -1, test["user"])}
    features = {**FEATURES, "status": "categorical"}
    parts = {"train": train, "test": test}
    return logs.written(tmp_path_factory.mktemp("leaking"), parts, features=features).folder


def test_a_clean_table(clean: Path) -> None:
    answer = call("doctor", clean)
    assert (answer.code, answer.trace, answer.warned) == (0, "", ())
    checked, _, unchecked = answer.out.partition("\nNot checked:\n")
    assert checked.startswith("no findings in tiny (") and f"), {clean}" in checked.replace("\n", " ")
    assert "\nLooked at 7 features in " in checked and checked.endswith(" test rows.")
    assert unchecked.startswith("  time order:")
    assert [line.split(":")[0] for line in answer.err.splitlines()] == ["compare rows", "examine features"]


def test_findings(leaking: Path) -> None:
    """The gravest first, each with evidence and advice."""
    answer = call("doctor", leaking)
    assert (answer.code, answer.trace, answer.warned) == (1, "", ())
    assert answer.out.startswith("1 error, 1 warning, 1 note in log (")
    found = [line for line in answer.out.splitlines() if line.startswith(("error", "warning", "note"))]
    assert found == [
        "error: label among the features: status",
        "warning: drift: price",
        "note: ids never in train: user",
    ]
    assert answer.out.count("  → ") == 3 and "it is clicked in 100 % of the" in answer.out


@pytest.mark.parametrize("columns", [50, 80, 200])
def test_no_line_is_wider_than_the_terminal(columns: int, leaking: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor than 100 characters, which read well."""
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = [line for line in call("doctor", leaking).out.splitlines() if str(leaking) not in line]  # as long as it is
    assert max(map(len, lines)) <= min(columns, 100) and max(map(len, lines)) > min(columns, 100) - 15


def test_json(clean: Path, leaking: Path) -> None:
    report: Any = loads(call("doctor", clean, "--json"))
    assert report["findings"] == [] and report["features"] == 7 and report["protocol"]["name"] == "tiny"
    assert set(report["rows"]) == {"train", "dev", "test"} and len(report["not_checked"]) == 1
    answer = call("doctor", leaking, "--json")
    assert (answer.code, answer.err) == (1, "")
    found = json.loads(answer.out)["findings"]
    assert [each["severity"] for each in found] == ["error", "warning", "note"]
    assert set(found[0]) == {"check", "subject", "severity", "evidence", "advice"}


def test_notes_alone_are_no_fault_and_warnings_alone_are(tmp_path: Path) -> None:
    log = logs.draw(3000)
    train, test = (logs.take(log, np.arange(*rows)) for rows in ((0, 2000), (2000, 3000)))
    test["user"] = np.where(np.arange(1000) % 4 == 0, -1, test["user"])
    answer = call("doctor", logs.written(tmp_path, {"train": train, "test": test}).folder)
    assert answer.code == 0 and "1 note in log (" in answer.out
    test["price"] = test["price"] * 2
    answer = call("doctor", logs.written(tmp_path, {"train": train, "test": test}).folder)
    assert answer.code == 1 and "1 warning, 1 note in log (" in answer.out


def test_what_is_no_table(tmp_path: Path) -> None:
    assert "is not a folder, so it is no prepared table; make one with" in refused("doctor", tmp_path / "none")
    assert "has no manifest.json" in refused("doctor", tmp_path)
    (tmp_path / "table").mkdir()
    (tmp_path / "table/manifest.json").write_text("{")
    assert "is damaged" in refused("doctor", tmp_path / "table")
