"""What `funnelcast adapt` refuses, and the deltas that `predict` does; nothing half-written remains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from funnelcast.experiments.adapt import adapt_file
from funnelcast.training.adapting import Adapting
from harness.calls import call
from tests.cli.conftest import EXPERIMENT
from tests.cli.test_adapt import FEW, reached
from tests.cli.test_main import refused


def without(*columns: str) -> Callable[[pa.Table], pa.Table]:
    return lambda log: log.drop_columns(list(columns))


def nulls(log: pa.Table) -> pa.Table:
    return log.drop_columns(["campaign"]).append_column("campaign", pa.nulls(len(log), pa.string()))


ONE = ("--out", "one.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "change", "message"),
    [
        ((*ONE, "--key", "campaign=sale", "--by", "campaign"), None, "and --by makes one of each value; take one"),
        ((*ONE, "--set", "stepz=3"), None, "--set has 1 fault: stepz: is not a setting; did you mean 'steps'?"),
        ((*ONE, "--set", "steps=many"), None, "steps: "),
        ((*ONE, "--set", "steps"), None, "'steps' is not NAME=VALUE"),
        ((*ONE, "--key", "campaign"), None, "'campaign' is not NAME=VALUE"),
        (("--out", "one.st"), None, "one.st must end in .safetensors, as deltas do"),
        (ONE, without("click"), "rows.parquet: the rows lack the label column 'click'; adapting learns from rows with"),
        (ONE, without("user"), "lack 1 of the model's 2 columns: user"),
        ((*ONE, "--key", "campaign=sprig"), None, "no row has campaign = 'sprig'; did you mean 'spring'?"),
        ((*ONE, "--key", "campain=spring"), None, "lack the column 'campain' of the key; did you mean 'campaign'?"),
        ((*ONE, "--key", "campaign=x"), nulls, "no row has campaign = 'x'; every value is missing"),
        (ONE, lambda log: log.slice(0, 1), "there are 1 rows to adapt to, and one is held out; give 2 or more"),
        (ONE, lambda log: log.slice(0, 0), "there are 0 rows to adapt to"),
        (("--out", "all", "--by", "campain"), None, "lack the column 'campain' of the key; did you mean 'campaign'?"),
        (("--out", "all", "--by", "row"), None, "no value of 'row' has 2 rows with labels, so there is nothing"),
        (("--out", "all", "--by", "campaign"), without("buy"), "the rows lack the label column 'buy'"),
        (("--out", "all", "--by", "campaign"), lambda log: log.slice(0, 0), "no value of 'campaign' has 2 rows"),
        (("--out", "all", "--by", "campaign"), nulls, "no value of 'campaign' has 2 rows with labels"),
    ],
)  # fmt: skip
def test_what_it_refuses(made: Path, tmp_path: Path, arguments: tuple[str, ...], change: Any, message: str) -> None:
    """Nothing half-written remains."""
    log = reached(made)
    pq.write_table(log if change is None else change(log), tmp_path / "rows.parquet")
    out, place, *more = arguments
    said = refused("adapt", made / "run/bundle", "--support", tmp_path / "rows.parquet", out, tmp_path / place, *more)
    assert message in " ".join(said.replace("│", " ").split()), said
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


def test_outputs_are_replaced_on_demand_only(made: Path, tmp_path: Path) -> None:
    one, folder = ("--out", tmp_path / "one.safetensors"), ("--out", tmp_path / "all", "--by", "campaign")
    more = ("adapt", made / "run/bundle", "--support", made / "log.parquet", *FEW)
    for arguments in (one, folder):
        assert call(*more, *arguments).code == 0
        before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
        assert "exists already; choose another place, or replace it with --replace" in refused(*more, *arguments)
        assert "no row has campaign = 'x'" in refused(*more, *one, "--key", "campaign=x", "--replace")
        assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before
        assert call(*more, *arguments, "--replace").code == 0


def test_a_folder_of_other_things_is_not_replaced(made: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years")
    more = ("--support", made / "log.parquet", "--out", tmp_path / "mine", "--by", "campaign", "--replace")
    said = refused("adapt", made / "run/bundle", *more)
    assert "is not empty and has no deltas.json, so it is not replaced" in said
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "thesis.txt"]


def test_boosters_have_nothing_to_adapt(made: Path, tmp_path: Path) -> None:
    model = 'model = {name = "lightgbm", rounds = 2}'
    lines = [line for line in EXPERIMENT.splitlines() if not line.startswith(("model", "stages", "optimizer"))]
    (tmp_path / "boosted.toml").write_text("\n".join([*lines, model]))
    assert call("train", tmp_path / "boosted.toml", "--data", made / "table", "--out", tmp_path / "run").code == 0
    log, out = made / "log.parquet", tmp_path / "one.safetensors"
    said = refused("adapt", tmp_path / "run/bundle", "--support", log, "--out", out)
    assert "holds lightgbm, which has no parameters to adapt; train a network, such as man" in said
    assert not out.exists()


def test_deltas_that_predict_cannot_take(made: Path, tmp_path: Path) -> None:
    def said(deltas: Path, given: Path = made / "log.parquet") -> str:
        message = refused("predict", made / "run/bundle", given, "--out", tmp_path / "p.csv", "--deltas", deltas)
        assert not [path.name for path in tmp_path.iterdir() if "p.csv" in path.name]
        return message

    deltas, damaged = tmp_path / "deltas", tmp_path / "deltas/campaign=sale.safetensors"
    adapt_file(made / "run/bundle", made / "log.parquet", deltas, by="campaign", config=Adapting(steps=1, folds=2))
    pq.write_table(without("campaign")(reached(made)), tmp_path / "rows.parquet")
    assert "lack the column 'campaign' of the key" in said(deltas, tmp_path / "rows.parquet")
    assert "has only ids that the bundle knows; give the raw rows, as deltas" in said(deltas, made / "table")
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert f"{damaged} is damaged" in said(deltas) and "adapt again, or restore it from a copy" in said(deltas)
    assert "is not a file; make a delta with: funnelcast adapt" in said(tmp_path / "nowhere.safetensors")
    assert "has no delta, no file that ends in .safetensors" in said(made)
