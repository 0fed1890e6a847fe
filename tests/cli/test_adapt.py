"""`funnelcast adapt`, and predicting with what it writes, as Python does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from funnelcast.serving.delta import Delta
from funnelcast.serving.predictor import Predictor, load
from harness.calls import Answer, call
from tests.cli.test_main import loads

FEW = ("--set", "steps=3", "--set", "folds=2", "--set", "learning_rate=0.5", "--set", "offsets=false")
COLUMNS = ("p_click", "p_buy", "p_buy_given_click")


def reached(made: Path) -> pa.Table:
    """The log with nearly all steps reached, so that steps help, and an unknown user."""
    log = pq.read_table(made / "log.parquet").to_pandas()
    log["click"] = log["buy"] = (log["row"] % 20 > 0).astype("int8")
    log.loc[log["row"] % 4 == 0, "user"] = 777
    return pa.Table.from_pandas(log)


@pytest.fixture(scope="module")
def rows(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nothing may be changed."""
    path: Path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    pq.write_table(reached(made), path)
    return path


def adapt(made: Path, rows: Path, out: Path, *more: object) -> Answer:
    answer = call("adapt", made / "run/bundle", "--support", rows, "--out", out, *FEW, *more)
    assert (answer.code, answer.trace, answer.warned) == (0, "", ()), answer
    return answer


def predicted(made: Path, rows: Path, deltas: Path, out: Path) -> pa.Table:
    answer = call("predict", made / "run/bundle", rows, "--out", out, "--deltas", deltas)
    assert (answer.code, answer.trace, answer.warned) == (0, "", ()), answer
    return pq.read_table(out)


def same(found: pa.Table, predictor: Predictor, rows: Path | pa.Table) -> bool:
    expected = predictor.predict(rows if isinstance(rows, pa.Table) else pq.read_table(rows))
    return all(found[column].equals(expected[column]) for column in COLUMNS)


def test_one_delta(made: Path, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "new/one.safetensors"
    said = adapt(made, rows, out).out
    assert "Adapted to 400 rows: click 380, buy 380" in said and "one class alone" not in said
    assert "after 3 steps; new ids: user 1\n" in said and f"Wrote {out}, " in said
    delta = Delta.load(out)
    assert (delta.key, delta.rows, delta.steps, delta.new_ids["user"].to_pylist()) == ({}, 400, 3, [777])
    found = predicted(made, rows, out, tmp_path / "p.parquet")
    assert same(found, load(made / "run/bundle").with_deltas(out), rows)
    assert not same(found, load(made / "run/bundle"), rows)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("column", ["campaign", "region"], ids=["kept", "not in the schema"])
def test_a_key(made: Path, tmp_path: Path, kind: str, column: str) -> None:
    """Of the rows those of its value; without the column all."""
    log, support, out = reached(made), tmp_path / f"rows.{kind}", tmp_path / "spring.safetensors"
    log, spring = log.rename_columns({"campaign": column}), log["campaign"].to_numpy() == "spring"
    write = pq.write_table if kind == "parquet" else pa.csv.write_csv
    write(log, support)
    assert f"Adapted to {spring.sum()} rows" in adapt(made, support, out, "--key", f"{column}=spring").out
    first, base = Delta.load(out), load(made / "run/bundle")
    assert first.key == {column: "spring"}
    found = predicted(made, support, out, tmp_path / "p.parquet")
    assert same(found, base.with_deltas(first), log)
    assert np.array_equal((found["p_click"].to_numpy() != base.predict(log)["p_click"].to_numpy()), spring)
    write(log.filter(pa.array(spring)).drop_columns([column]), support)
    adapt(made, support, out, "--key", f"{column}=spring", "--replace")
    assert Delta.load(out).losses == pytest.approx(first.losses, rel=1e-12)


def test_one_for_each_value(made: Path, rows: Path, tmp_path: Path) -> None:
    log = pq.read_table(rows).to_pandas()
    log.loc[:2, "campaign"] = ["only", None, None]
    log.loc[3:4, "campaign"] = "a/b"
    pq.write_table(pa.Table.from_pandas(log), tmp_path / "rows.parquet")
    answer = adapt(made, tmp_path / "rows.parquet", tmp_path / "deltas", "--by", "campaign")
    assert "3 deltas in" in answer.out and "1 values have fewer than 2 rows, and no delta" in answer.out
    assert answer.err == "adapt: 4 values \n"
    names = [f"campaign={value}.safetensors" for value in ("a%2Fb", "sale", "spring")]
    assert sorted(path.name for path in (tmp_path / "deltas").iterdir()) == [*names, "deltas.json"]
    found = predicted(made, tmp_path / "rows.parquet", tmp_path / "deltas", tmp_path / "p.parquet")
    base = load(made / "run/bundle")
    assert same(found, base.with_deltas(tmp_path / "deltas"), tmp_path / "rows.parquet")
    alone = adapt(made, tmp_path / "rows.parquet", tmp_path / "sale.safetensors", "--key", "campaign=sale")
    sale = Delta.load(tmp_path / "deltas" / names[1])
    assert sale.losses == Delta.load(tmp_path / "sale.safetensors").losses and f"{sale.rows} rows" in alone.out


def test_the_same_as_json(made: Path, rows: Path, tmp_path: Path) -> None:
    more = ("adapt", made / "run/bundle", "--support", rows, *FEW, "--json", "--out")
    one: Any = loads(call(*more, tmp_path / "one.safetensors", "--key", "campaign=sale"))
    many: Any = loads(call(*more, tmp_path / "deltas", "--by", "campaign"))
    assert json.loads((tmp_path / "deltas/deltas.json").read_text()) == {
        "base": load(made / "run/bundle").bundle.fingerprint, "by": "campaign", **many,
    }  # fmt: skip
    [sale] = [made for made in many["deltas"] if made["key"] == {"campaign": "sale"}]
    assert one["deltas"] == [sale | {"file": "one.safetensors"}] and one["skipped"] == many["skipped"] == 0
    delta = Delta.load(tmp_path / "one.safetensors")
    assert sale["bytes"] == (tmp_path / "one.safetensors").stat().st_size and sale["new_ids"] == {"user": 1}
    assert (sale["rows"], sale["dropped"], sale["positives"]) == (delta.rows, 0, delta.positives)
    assert sale["held_out_loss"] == {"before": delta.losses[0], "after": delta.losses[3]} and sale["reason"] == ""


def test_one_class_and_rows_that_contradict_are_told(made: Path, rows: Path, tmp_path: Path) -> None:
    log = pq.read_table(rows).to_pandas().head(40)
    log["click"], log["buy"] = 1, 0
    log.loc[:2, ["click", "buy"]] = 0, 1
    pq.write_table(pa.Table.from_pandas(log), tmp_path / "rows.parquet")
    said = adapt(made, tmp_path / "rows.parquet", tmp_path / "one.safetensors").out
    assert "Adapted to 37 rows: click 37, buy 0" in said and "3 rows contradict the funnel, and were left out" in said
    assert "click: every row reached it; it learns from one class alone" in said
    assert "buy: no row reached it; it learns from one class alone" in said


def test_where_no_step_helps(made: Path, rows: Path, tmp_path: Path) -> None:
    more = ("--set", "learning_rate=1e-30")
    assert "Nothing is changed: no step lowers" in adapt(made, rows, tmp_path / "one.safetensors", *more).out
    assert "2 of them change nothing" in adapt(made, rows, tmp_path / "all", "--by", "campaign", *more).out
    for deltas in (tmp_path / "one.safetensors", tmp_path / "all"):
        found = predicted(made, rows, deltas, tmp_path / f"{deltas.stem}.parquet")
        assert same(found, load(made / "run/bundle"), rows)
