"""Diagnosing runs of every kind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funnelcast.data.table import Table
from funnelcast.errors import FunnelcastError
from funnelcast.evaluation.auc import auc
from funnelcast.evaluation.score import score
from funnelcast.experiments.run import Run, train
from funnelcast.reports.diagnosis.diagnose import diagnose, diagnose_run
from tests import tiny
from tests.benchmarks.suites import BOTTOM, MMOE, finished_runs


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return tiny.write_table(tmp_path_factory.mktemp("diagnose") / "table", test=900)


@pytest.fixture(scope="module")
def run(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tiny.experiment(), table, tmp_path_factory.mktemp("runs") / "man")


@pytest.fixture(scope="module")
def diagnosis(run: Run, table: Table) -> dict[str, Any]:
    return diagnose(run.folder, table, by="campaign", item="item")


def test_all_of_it_is_there_and_is_json(diagnosis: dict[str, Any]) -> None:
    assert list(diagnosis) == ["epochs", "calibration", "frequency", "scores", "gates", "attention", "conflict", "time"]
    assert json.loads(json.dumps(diagnosis, allow_nan=False)) == diagnosis


def test_the_run_stays_as_it_is(run: Run, table: Table) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    diagnose(run.folder, table)
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before


def test_epochs_are_those_of_the_log(run: Run, diagnosis: dict[str, Any]) -> None:
    lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert [(e["stage"], e["epoch"]) for e in diagnosis["epochs"]] == [(line["stage"], line["epoch"]) for line in lines]
    assert diagnosis["epochs"][0]["dev_auc"]["click"] == lines[0]["dev"]["click"]["auc"]["estimate"]


def test_aucs_by_frequency_are_of_their_rows(run: Run, table: Table, diagnosis: dict[str, Any]) -> None:
    rows = table.part("test")
    log_p, _ = score(run.bundle.model, rows)
    assert rows.labels is not None and rows.weight is not None
    seen = rows.labels[:, 0] != 255
    new = np.asarray(rows.ids[:, 1]) == 0
    own = seen & new
    first = diagnosis["frequency"]["outputs"]["click"][0]
    assert (diagnosis["frequency"]["field"], first["name"], first["rows"]) == ("item", "new", own.sum())
    assert first["auc"] == pytest.approx(auc(rows.labels[own, 0], log_p[own, 0], rows.weight[own]), abs=1e-9)
    assert sum(bucket["rows"] for bucket in diagnosis["frequency"]["outputs"]["click"]) == seen.sum()


def test_groups_have_curves_of_their_own(table: Table, diagnosis: dict[str, Any]) -> None:
    curves = diagnosis["calibration"]["click"]
    assert curves[0]["group"] is None and {curve["group"] for curve in curves[1:]} == {"0", "1", "2"}
    sizes = [curve["rows"] for curve in curves[1:]]
    assert sizes == sorted(sizes, reverse=True)
    assert curves[0]["rows"] == sum(curve["rows"] for curve in curves[1:])


def test_scores_add_up_to_the_weights(table: Table, diagnosis: dict[str, Any]) -> None:
    rows = table.part("test")
    assert rows.labels is not None and rows.weight is not None
    found = diagnosis["scores"]["click"]
    assert sum(found["reached"]) == pytest.approx(rows.weight[rows.labels[:, 0] == 1].sum())
    assert len(found["edges"]) == len(found["not"]) + 1


def test_time_is_shared_out(diagnosis: dict[str, Any]) -> None:
    assert sum(part["share"] for part in diagnosis["time"]) == pytest.approx(1)
    assert {part["part"] for part in diagnosis["time"]} >= {"forward", "backward", "optimizer"}


def test_boosters_have_what_they_can_have(table: Table, tmp_path: Path) -> None:
    model = {"name": "lightgbm", "rounds": 4, "num_leaves": 4, "min_rows_per_leaf": 1}
    train(tiny.experiment(model=model, loss={}, optimizer={}, stages=[{}]), table, tmp_path / "run")
    assert list(diagnose(tmp_path / "run", table)) == ["calibration", "frequency", "scores"]


def test_what_is_refused(run: Run, table: Table, tmp_path: Path) -> None:
    with pytest.raises(FunnelcastError, match="holds no finished run"):
        diagnose(tmp_path, table)
    with pytest.raises(FunnelcastError, match="did you mean 'campaign'"):
        diagnose(run.folder, table, by="campain")
    with pytest.raises(FunnelcastError, match="did you mean 'item'"):
        diagnose(run.folder, table, item="items")


def test_of_a_benchmark_every_models_first_seed(table: Table, tmp_path: Path) -> None:
    finished_runs(tmp_path, table, {"B": BOTTOM, "M": MMOE})
    said = {"models": {"B": {}, "M": {}, "absent": {}}, "table": str(table.folder)}
    (tmp_path / "benchmark.json").write_text(json.dumps(said))
    found = diagnose_run(tmp_path)
    assert list(found) == ["B", "M"] and found["M"]["gates"] and "gates" not in found["B"]
    assert json.loads((tmp_path / "diagnosis.json").read_text()) == found


def test_of_a_benchmark_models_that_were_taken_out_are_not_diagnosed(table: Table, tmp_path: Path) -> None:
    finished_runs(tmp_path, table, {"B": BOTTOM, "M": MMOE}, seeds=1)
    said = {"models": {"B": {}, "M": {}}, "table": str(table.folder)}
    (tmp_path / "benchmark.json").write_text(json.dumps(said))
    (tmp_path / "results.json").write_text(json.dumps({"models": {"B": {}}}))
    assert list(diagnose_run(tmp_path)) == ["B"]


def test_of_one_run_the_table_must_be_said(run: Run, table: Table, tmp_path: Path) -> None:
    with pytest.raises(FunnelcastError, match="--data TABLE"):
        diagnose_run(run.folder)
    shutil.copytree(run.folder, tmp_path / "run")
    assert diagnose_run(tmp_path / "run", table.folder)["epochs"] and (tmp_path / "run/diagnosis.json").is_file()
