"""`funnelcast datasets` and `funnelcast demo`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from funnelcast.experiments.presets import DEFAULT, PRESETS
from harness.calls import call
from tests.cli.test_main import loads, refused


def test_a_generated_log(raw: Path, tmp_path: Path) -> None:
    made = loads(call("datasets", "generate", tmp_path / "log", "--rows", 1000, "--json"))
    described = json.loads((raw / "generator.json").read_text())
    assert made["train"] == {name: described["train"][name] for name in made["train"]}  # type: ignore[attr-defined]
    assert (tmp_path / "log/sample_skeleton_train.csv").read_bytes() == (raw / "sample_skeleton_train.csv").read_bytes()


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [("--rows", 10, "10 is too few"), ("--seed", -1, "-1 is negative"), ("--rows", "x", "--rows")],
)
def test_what_cannot_be_generated(tmp_path: Path, option: str, value: object, said: str) -> None:
    assert said in refused("datasets", "generate", tmp_path / "log", option, value)
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_exist(tmp_path: Path) -> None:
    (tmp_path / "one.jpg").touch()
    for verb in (("datasets", "generate", tmp_path), ("demo", "--out", tmp_path)):
        assert "--replace" in refused(*verb)
        assert "is not replaced" in refused(*verb, "--replace")
    assert (tmp_path / "one.jpg").exists()


@pytest.mark.slow
def test_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is, then again with a smaller model in its place."""
    answer = call("demo", "--out", tmp_path / "demo", "--rows", 1000)
    assert answer.code == 0, answer
    assert "LightGBM" in answer.out and f"{tmp_path}/demo/oulad/run/report/report.html" in answer.out
    assert "A generated log of 1,000 rows" in answer.out and "p_conversion_given_click" in answer.out
    for name in ("raw/generator.json", "table/manifest.json", "run/bundle/bundle.json", "oulad/run/report/report.html"):
        assert (tmp_path / "demo" / name).is_file()
    assert call("evaluate", tmp_path / "demo/run/bundle", tmp_path / "demo/table", "--by", 301).code == 0
    quick = PRESETS[DEFAULT].read_text().replace("members = 4", "members = 1").replace("epochs = 50", "epochs = 1")
    (tmp_path / "quick.toml").write_text(quick)
    monkeypatch.setitem(PRESETS, DEFAULT, tmp_path / "quick.toml")
    found: Any = loads(call("demo", "--out", tmp_path / "demo", "--rows", 1000, "--replace", "--json"))
    assert found["log"]["train"]["rows"] + found["log"]["test"]["rows"] == 1000
    real = found["oulad"]
    assert set(real["baselines"]["test"]) == set(real["mean"]["test"]) and Path(real["report"]).is_file()
    assert "constant rate" in Path(real["report"]).read_text()
    assert len(found["scored"]) == 5 and set(found["evaluation"]["outputs"]) >= {"click", "conversion_given_click"}


@pytest.mark.slow
def test_a_shipped_funnel(tmp_path: Path) -> None:
    made = loads(call("datasets", "oulad", tmp_path / "table", "--seed", 3, "--json"))
    assert sum(made["rows"].values()) == 32_593  # type: ignore[attr-defined]
    assert "--replace" in refused("datasets", "oulad", tmp_path / "table")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("hotel",), "hotel is not shipped, and no file is given; give hotel_bookings.csv"),
        (("fbads", "--newest", "--file", "x.csv"), "leave out --newest for a random split"),
        (("ml100k", "--files", "nowhere"), "nowhere/ml-100k.inter does not exist; give the folder"),
    ],
)
def test_funnels_that_cannot_be_made(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    verb, *options = arguments
    assert said in refused("datasets", verb, tmp_path / "table", *options)
