"""`funnelcast report`: where the page is, and errors without traceback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.calls import call


def test_a_run_becomes_a_page(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "run", tmp_path / "run")
    done = call("report", tmp_path / "run")
    assert done.code == 0 and f"{tmp_path}/run/report/report.html" in done.out
    assert (tmp_path / "run/report/report.html").read_text().startswith("<!doctype html>")
    second = call("report", tmp_path / "run", "--out", tmp_path / "elsewhere", "--json")
    assert json.loads(second.out) == json.loads((tmp_path / "elsewhere/report.json").read_text())


def test_a_folder_that_is_no_run_is_a_users_mistake(made: Path) -> None:
    done = call("report", made / "table")
    assert done.code == 2 and "neither a benchmark nor a training run" in done.err and "Traceback" not in done.err


@pytest.mark.slow
def test_models_are_looked_into_where_the_table_is_known(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "run", tmp_path / "run")
    done = call("report", tmp_path / "run", "--data", made / "table", "--by", "campaign", "--item", "user")
    assert done.code == 0 and (tmp_path / "run/diagnosis.json").is_file()
    written = json.loads((tmp_path / "run/report/report.json").read_text())
    assert "gates" in written["diagnoses"]["tiny"] and any("calibration" in f["file"] for f in written["figures"])
    wrong = call("report", tmp_path / "run", "--data", made / "table", "--by", "campain")
    assert wrong.code == 2 and "did you mean 'campaign'" in wrong.err
