"""Benchmarks on several data sets: what is left out is said, the rest is that of one data set each."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from funnelcast.benchmarks import run
from funnelcast.benchmarks.data_sets import LeftOut
from funnelcast.benchmarks.data_sets_markdown import standings
from funnelcast.benchmarks.run import benchmark
from funnelcast.benchmarks.run_pool import ModelRun
from funnelcast.benchmarks.suite import Suite
from funnelcast.benchmarks.table_source import absent, refusals, split_key
from funnelcast.data.progress import silent
from funnelcast.errors import FunnelcastError
from funnelcast.experiments.experiment import Experiment
from funnelcast.reports.write import report
from funnelcast.schema.funnel import Funnel
from tests import tiny
from tests.benchmarks.suites import in_this_process, write_suite

OULAD = ["completed", "passed", "distinction", "passed_given_completed", "distinction_given_passed"]


@pytest.mark.slow
def test_what_is_there_is_compared_and_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_this_process(monkeypatch)
    suite = write_suite(tmp_path, sources=["oulad", "hotel"], seeds=1)
    out, left, ended = tmp_path / "out", list[LeftOut](), list[ModelRun]()
    found = benchmark(suite, None, out, on_left_out=left.append, on_end=ended.append)
    assert [(each.source, each.model) for each in left] == [("hotel", "")] and "no file is given" in left[0].why
    assert list(found["sets"]) == ["oulad"] and len(ended) == 2
    assert found["sets"]["oulad"] == json.loads((out / "oulad/results.json").read_text())
    _check_standings(found)
    page = (out / "results.md").read_text()
    assert "Left out: all models on hotel: no file is given; say where it is with --files hotel=PATH" in page
    assert page.startswith("# small on 2 data sets\n") and "\n## small on course registrations (oulad)" in page
    _check_report(found, out)
    second = benchmark(suite, None, out, on_end=ended.append)
    assert len(ended) == 2 and second == found


def _check_standings(found: dict[str, Any]) -> None:
    """Against the figures and gains that results have by model."""
    models = found["sets"]["oulad"]["models"]
    every = list(standings(found))
    assert [(each.source, each.output) for each in every] == [("oulad", name) for name in OULAD]
    for each in every:
        gain = models["MMoE"]["gains"][each.output]
        own, other = (models[name]["figures"][each.output]["auc"]["mean"] for name in ("Shared bottom", "MMoE"))
        assert each.best == "MMoE" and each.gain is not None and each.gain["p_adjusted"] == gain["p_adjusted"]
        assert each.gain["estimate"] == pytest.approx(own - other, abs=1e-6)
        assert (each.gain["low"], each.gain["high"]) == (-gain["high"], -gain["low"])


def _check_report(found: dict[str, Any], out: Path) -> None:
    said = report(out)
    page = (out / "report/report.html").read_text()
    assert said["kind"] == "benchmarks" and said["results"] == found
    assert "Left out: all models on hotel" in page and "oulad: AUC and gains" in page and page.count("<svg") == 1
    assert said["commands"][0] == f"funnelcast benchmark {out.parent}/suite.toml --seeds 1 --out {out}"
    of_one = report(out / "oulad")
    assert of_one["commands"][0] == said["commands"][0]


def test_a_gain_is_over_the_best_of_the_others() -> None:
    """Of three models; the one without a figure is none."""

    def model(auc: float | None, estimate: float = 0.0) -> dict[str, Any]:
        gain = {"estimate": estimate, "low": estimate - 0.02, "high": estimate + 0.01, "p_adjusted": 0.03}
        figures = {"click": {"rows": 9, "positives": 4, "auc": {"mean": auc}}} if auc is not None else {}
        return {"figures": figures, "gains": {"click": gain} if auc is not None else {}}

    models = {"A": model(0.7), "B": model(0.6, -0.1), "C": model(0.8, 0.1), "D": model(None)}
    (each,) = standings({"reference": "A", "models": [*models, "E"], "sets": {"shop": {"models": models}}})
    assert each.best == "C" and each.aucs == {"A": 0.7, "B": 0.6, "C": 0.8, "D": None, "E": None}
    assert each.gain == pytest.approx({"estimate": -0.1, "low": -0.11, "high": -0.08, "p_adjusted": 0.03})


def test_tables_and_faults_come_before_any_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "run_models", lambda *_: pytest.fail("trained"))
    suite = write_suite(tmp_path, sources=["hotel", "fbads"])
    with pytest.raises(FunnelcastError, match=r"no data set of this benchmark is there:\n  hotel: all left out"):
        benchmark(suite, None, tmp_path / "out")
    (tmp_path / "wrong.csv").write_text("a,b\n1,2\n")
    with pytest.raises(FunnelcastError, match="cannot be read as fbads"):
        benchmark(suite, None, tmp_path / "out", files={"fbads": tmp_path / "wrong.csv"})


@pytest.mark.parametrize(("source", "path", "said"), [
    ("hotle", "x", "reads no files of 'hotle'; did you mean 'hotel'?"),
    ("oulad", "x", "reads no files of 'oulad'"),
    ("hotel", "nowhere.csv", "nowhere.csv does not exist; give the path"),
])  # fmt: skip
def test_files_that_are_not_read_or_not_there(tmp_path: Path, source: str, path: str, said: str) -> None:
    suite = write_suite(tmp_path, sources=["oulad", "hotel"])
    with pytest.raises(FunnelcastError) as caught:
        benchmark(suite, None, tmp_path / "out", files={source: path})
    assert said in str(caught.value) and not (tmp_path / "out").exists()


def test_a_source_alone_says_what_it_lacks(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, source="hotel", files={"hotel": "nowhere.csv"})
    with pytest.raises(FunnelcastError, match=r"hotel cannot be made: nowhere.csv does not exist; say where"):
        benchmark(suite, None, tmp_path / "out")


def test_a_table_that_is_made_needs_no_file(tmp_path: Path) -> None:
    suite = Suite(name="s", source="hotel", models={"M": Path("man-paper")})
    assert "no file is given" in absent(suite, tmp_path, silent)
    tiny.write_table(tmp_path / "table")
    assert absent(suite, tmp_path, silent) == ""


def test_splits_part_no_group_of_a_source() -> None:
    suite = Suite(name="s", sources=("hotel", "oulad"), models={"M": Path("man-paper")})
    assert split_key(suite.of("hotel")) == "party" and split_key(suite.of("oulad")) is None
    assert split_key(suite.of("hotel").model_copy(update={"split_by": "seller"})) == "seller"


def test_models_that_cannot_take_a_funnel() -> None:
    funnel, inputs = Funnel.parse("click; like"), tiny.fitted_encoder().inputs
    table: Any = SimpleNamespace(encoder=SimpleNamespace(inputs=inputs), schema=SimpleNamespace(funnel=funnel))
    experiments = {name: Experiment.from_dict({"model": {"name": name}}) for name in ("esmm", "mmoe")}
    assert list(refusals(experiments, table)) == ["esmm"]
