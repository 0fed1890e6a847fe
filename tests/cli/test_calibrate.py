"""`funnelcast calibrate`: what it shows and writes, and what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

from harness.calls import call
from tests.cli.test_main import loads, refused


def test_a_bundle_is_calibrated(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "run/bundle", tmp_path / "bundle")
    answer = call("calibrate", tmp_path / "bundle", made / "log.csv", "--by", "user")
    assert answer.code == 0 and "Calibrated on 400 rows:" in answer.out and f"Wrote {tmp_path / 'bundle'}" in answer.out
    assert "  click " in answer.out and "  buy " in answer.out
    found = loads(call("calibrate", tmp_path / "bundle", made / "table", "--out", tmp_path / "other", "--json"))
    assert found["bundle"] == str(tmp_path / "other") and set(found["steps"]) == {"click", "buy"}  # type: ignore[call-overload]
    assert call("evaluate", tmp_path / "other", made / "table").code == 0


def test_a_folder_with_other_things_is_not_overwritten(made: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "--replace" in refused("calibrate", made / "run/bundle", made / "table", "--out", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_rows_of_the_training_are_refused(made: Path) -> None:
    said = refused("calibrate", made / "run/bundle", made / "table", "--part", "dev")
    assert "stopped its training" in said and "--part test" not in said
