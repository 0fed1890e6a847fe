"""`funnelcast evaluate` and `funnelcast compare`: what they show, and what they refuse."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from funnelcast.cli.console import number
from funnelcast.cli.evaluate import show_metrics
from harness.calls import call
from tests.cli.conftest import SCHEMA
from tests.cli.test_main import loads, refused


def test_metrics_and_groups(made: Path) -> None:
    answer = call("evaluate", made / "run/bundle", made / "table", "--by", "campaign")
    assert answer.code == 0
    assert all(name in answer.out for name in ("click", "buy", "buy_given_click", "constant", "GAUC", "of 2 groups"))


def test_the_largest_groups_are_shown(made: Path) -> None:
    """With rows, positives, AUC and calibration; items by their names in the log, and what is not known apart."""
    answer = call("evaluate", made / "run/bundle", made / "table", "--by", "user")
    found = loads(call("evaluate", made / "run/bundle", made / "table", "--by", "user", "--json"))["groups"]
    click = found["click"]  # type: ignore[index]
    lines = answer.out.split("click: GAUC ", 1)[1].splitlines()
    assert "evaluate: " in answer.err and "10 largest groups" in lines[3]
    ece, rce = ((click[f"field_{name}"], click[f"field_{name}_floor"]) for name in ("ece", "rce"))
    assert f"field-ECE {number(ece[0], 5)} (by chance alone {number(ece[1], 5)})" in lines[1]
    assert f"field-RCE {number(rce[0])} (by chance alone {number(rce[1])})" in lines[1]
    shown = [line.split() for line in lines[5:15]]
    largest = sorted(click["by_group"], key=lambda group: -group["rows"])[:10]
    assert [line[:3] for line in shown] == [[g["group"], str(g["rows"]), str(g["positives"])] for g in largest]
    assert [line[3] for line in shown] == [number(g["auc"]) for g in largest]
    assert [line[4] for line in shown] == [number(g["observed_over_predicted"], 3) for g in largest]


def test_ratios_that_were_cut_and_unknown_groups_are_told(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result: Any = loads(call("evaluate", made / "run/bundle", made / "table", "--by", "campaign", "--json"))
    result["ratio_cut"]["buy_given_click"] = 1234
    result["groups"]["click"]["unknown"] = {"rows": 5678, "positives": 9, "auc": None, "observed_over_predicted": 0.5}
    show_metrics(result)
    shown = capsys.readouterr().out
    assert "buy_given_click: " in shown and "p above that of the step before in 1,234 rows, cut to it" in shown
    assert shown.count("cut to it") == 1
    [unknown] = [line.split() for line in shown.splitlines() if "not in GAUC" in line]
    assert unknown[-4:] == ["5,678", "9", "–", "0.500"]


def test_a_misspelt_group_and_part(made: Path) -> None:
    arguments = ("evaluate", made / "run/bundle", made / "table")
    assert "no column 'campain' to group by; did you mean 'campaign'?" in refused(*arguments, "--by", "campain")
    assert "'tset' is no part of a table; did you mean 'test'?" in refused(*arguments, "--part", "tset")


def test_a_group_with_missing_values(made: Path, tmp_path: Path) -> None:
    log = pq.read_table(made / "log.parquet")
    holes = pa.compute.if_else(pa.compute.equal(log["campaign"], "sale"), None, log["campaign"])
    pq.write_table(log.set_column(1, "campaign", holes), tmp_path / "log.parquet")
    (tmp_path / "schema.toml").write_text(SCHEMA)
    assert not call(
        "prepare", tmp_path / "schema.toml", "--train", tmp_path / "log.parquet", "--out", tmp_path / "table"
    ).code
    answer = call("evaluate", made / "run/bundle", tmp_path / "table", "--by", "campaign")
    assert answer.code == 0 and "of 1 group" in answer.out and "(unknown, not in GAUC)" in answer.out, answer


def test_wrong_folders(made: Path, tmp_path: Path) -> None:
    assert "a run's bundle is RUN/bundle" in refused("evaluate", made / "run", made / "table")
    assert "so it is no bundle" in refused("evaluate", made / "table", made / "table")
    assert "no prepared table" in refused("evaluate", made / "run/bundle", made / "run/bundle")
    assert "is not a folder" in refused("evaluate", made / "run/bundle", tmp_path / "none")


def test_a_table_with_other_ids(made: Path, tmp_path: Path) -> None:
    pq.write_table(pq.read_table(made / "log.parquet").slice(0, 100), tmp_path / "log.parquet")
    arguments = ("prepare", made / "schema.toml", "--train", tmp_path / "log.parquet", "--out", tmp_path / "table")
    assert call(*arguments, "--init", made / "run/bundle").code == 0
    log = pq.read_table(made / "log.parquet")
    pq.write_table(log.set_column(2, "user", pa.compute.add(log["user"], 5)), tmp_path / "log.parquet")
    assert call(*arguments, "--init", made / "run/bundle", "--replace").code == 0
    assert "gives other ids to 'user'" in refused("evaluate", made / "run/bundle", tmp_path / "table")


@pytest.fixture
def predictions(made: Path, tmp_path: Path) -> Path:
    (tmp_path / "a.parquet").write_bytes((made / "predictions.parquet").read_bytes())
    return tmp_path / "a.parquet"


def test_comparing(made: Path, predictions: Path) -> None:
    table = pq.read_table(predictions)
    worse = table.set_column(table.column_names.index("p_click"), "p_click", pa.array([0.5] * len(table)))
    pq.write_table(worse, predictions)
    answer = call("compare", made / "predictions.parquet", predictions)
    assert answer.code == 0 and "0.5000" in answer.out and "+0.0000" in answer.out


@pytest.mark.slow
def test_no_figure_is_cut_in_a_pipe(made: Path, tmp_path: Path) -> None:
    """Nor in a narrow terminal; what is to be said of an interval stands on a line of its own."""
    few = pq.read_table(made / "predictions.parquet").slice(0, 60)
    pq.write_table(few, tmp_path / "few.parquet")
    code = "from funnelcast.cli.main import main; main()"
    command = [sys.executable, "-c", code, "compare", str(tmp_path / "few.parquet"), str(tmp_path / "few.parquet")]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "60"})
    assert "…" not in shown.stdout and max(map(len, shown.stdout.splitlines())) < 100
    assert "  buy_given_click: too few positives" in shown.stdout.splitlines()


def test_predictions_of_a_table_and_of_raw_rows_are_compared(made: Path, tmp_path: Path) -> None:
    """Though labels have other types there, and a kept column holds NaN."""
    log = pq.read_table(made / "log.parquet").filter(pa.compute.field("user") > 3)
    log = log.set_column(0, "row", pa.array([float("nan")] * len(log)))
    pq.write_table(log, tmp_path / "log.parquet")
    (tmp_path / "s.toml").write_text(SCHEMA.replace("dev = 0.2, test = 0.3", "dev = 0.2, test = 0.0"))
    given = ("--train", made / "log.parquet", "--test", tmp_path / "log.parquet")
    assert (
        call("prepare", tmp_path / "s.toml", *given, "--init", made / "run/bundle", "--out", tmp_path / "t").code == 0
    )
    run = ("train", made / "man.toml", "--data", tmp_path / "t", "--out", tmp_path / "run")
    assert call(*run).code == 0
    for rows, out in (("t", "a.parquet"), ("log.parquet", "b.parquet")):
        assert not call("predict", tmp_path / "run/bundle", tmp_path / rows, "--out", tmp_path / out).code
    answer = call("compare", tmp_path / "a.parquet", tmp_path / "b.parquet")
    assert answer.code == 0 and answer.out.count("+0.0000 (") == 3, answer


def test_what_cannot_be_compared(made: Path, predictions: Path) -> None:
    good, table = made / "predictions.parquet", pq.read_table(predictions)

    def said(changed: pa.Table) -> str:
        pq.write_table(changed, predictions)
        return refused("compare", good, predictions) + refused("compare", predictions, good)

    assert "predict the same rows" in said(table.slice(1))
    assert "lacks 'p_click'" in said(table.drop_columns("p_click"))
    assert "lacks 'click'" in said(table.drop_columns("click"))
    assert "'row' differs" in said(table.set_column(0, "row", pa.compute.add(table["row"], 1)))
    text = table.set_column(4, "p_click", table["p_click"].cast(pa.string()))
    assert "a.parquet" in said(text) and "'p_click' holds string" in said(text)
    holes = pa.array([None, *table["p_click"].to_pylist()[1:]], pa.float64())
    assert "'p_click' has 1 values that are no probability" in said(table.set_column(4, "p_click", holes))
    twos = table.set_column(2, "click", pa.compute.add(table["click"], 1))
    pq.write_table(twos, predictions)
    assert "the label 'click' holds other values" in refused("compare", predictions, predictions)
    pq.write_table(table.drop_columns("click"), predictions)
    assert "no label column 'click'" in refused("compare", predictions, predictions)
    predictions.write_bytes(good.read_bytes()[:-100])
    assert "a.parquet cannot be read" in refused("compare", good, predictions)
    assert "log.csv is no Parquet file" in refused("compare", good, made / "log.csv")
    assert "has no predicted column" in refused("compare", made / "log.parquet", good)
