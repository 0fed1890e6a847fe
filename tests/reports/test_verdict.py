"""What has collapsed stands above everything else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from funnelcast.benchmarks.markdown import warnings
from funnelcast.benchmarks.results import _warnings
from funnelcast.reports.write import report
from tests.reports.runs import write_benchmark, write_training
from tests.reports.test_conclusion import model, results, said

TEXT = "click: AUC .4 is below chance"


@pytest.mark.slow
def test_of_a_run_at_the_top_of_its_page(tmp_path: Path) -> None:
    folder = write_training(tmp_path)
    found = json.loads((folder / "results.json").read_text())
    healthy = report(folder)["headline"]
    for part in ("dev", "test"):
        found[part]["click"]["warnings"] = [TEXT]
    found["dev"]["conversion"]["warnings"] = ["conversion: one prediction for all rows (0.1)"]
    (folder / "results.json").write_text(json.dumps(found))
    written = report(folder)
    expected = f"WARNING. On the test rows {TEXT}. On the dev rows conversion: one prediction for all rows (0.1)."
    assert "WARNING" not in healthy and written["headline"].startswith(expected)
    page = (folder / "report/report.html").read_text()
    assert page.index("On the test rows click: AUC .4 is below chance") < page.index("AUC", page.index("<h3>"))
    assert written["conclusions"][0]["sentences"][0] == f"WARNING: {TEXT}."


@pytest.mark.slow
def test_of_a_benchmark_with_the_repeats(tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path)
    found = json.loads((folder / "results.json").read_text())
    assert all("warnings" in each for each in found["models"].values())
    for each in found["models"].values():
        each["warnings"] = {}
    found["models"]["bottom"]["warnings"] = {"click": {"1": TEXT}}
    (folder / "results.json").write_text(json.dumps(found))
    assert report(folder)["headline"].startswith("WARNING. Collapsed outputs, with the repeats")
    assert "beyond noise: bottom in click (1 of 2)." in report(folder)["headline"]
    assert warnings(found) == [f"WARNING: bottom, seed 1: {TEXT}"]


def test_sentences_and_older_results() -> None:
    found = results(a=model(0.65, 0.05, warnings={"click": {0: TEXT, 1: TEXT}}))
    assert said(found).splitlines()[0] == f"WARNING: a, seed 0: {TEXT}."
    assert "WARNING" not in said(results(a=model(0.65, 0.05)))


def test_the_warnings_of_runs_by_output_and_seed() -> None:
    assert _warnings({3: {"click": {"warnings": [TEXT]}, "buy": {"warnings": []}}, 4: {"click": {}}}) == {
        "click": {"3": TEXT}
    }
