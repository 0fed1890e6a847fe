"""Baselines of tables with planted processes, and what runs say of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from funnelcast.data.columns import Columns, Ragged
from funnelcast.data.encoder import InputSpec, ListSpec
from funnelcast.data.files import new_folder
from funnelcast.data.table import Table
from funnelcast.data.table_writer import TableWriter
from funnelcast.experiments.baselines import measure
from funnelcast.experiments.baselines.fit import COLUMN, CONSTANT, LOGISTIC, SUM, fit_simple
from funnelcast.experiments.baselines.measure import LIGHTGBM, Baselines
from funnelcast.experiments.baselines.rows import Rates, sample
from funnelcast.experiments.repeat import train_seeds
from funnelcast.experiments.run import train
from funnelcast.reports.write import report
from funnelcast.schema.dataset import Schema
from tests import tiny

PARENTS = (-1, 0)
STEPS = 2


def drawn(rows: int, seed: int = 0, shuffled: bool = False) -> tuple[InputSpec, Columns]:
    """Click follows the number, conversion given click the list; the field is noise of many ids."""
    rng = np.random.default_rng(seed)
    ids, numeric = rng.integers(0, rows // 2, (rows, 1)).astype(np.int32), rng.standard_normal((rows, 1))
    lengths = rng.integers(0, 4, rows)
    listed = rng.integers(1, 6, lengths.sum()).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    first = np.where(lengths > 0, listed[np.minimum(offsets[:-1], len(listed) - 1)], 0)
    click = rng.random(rows) < 1 / (1 + np.exp(2 * np.cos(3 * numeric[:, 0])))
    conversion = click & (rng.random(rows) < np.where(first > 3, 0.7, 0.2))
    labels = np.stack([click, conversion], 1).astype(np.uint8)
    if shuffled:
        labels = labels[rng.permutation(rows)]
    labels[rng.random(rows) < 0.05, 1] = 255
    sizes, lists = {"noise": rows // 2, "items": 6}, (ListSpec("items", "items", "sequence"),)
    inputs = InputSpec((("noise", "noise"),), sizes, ("x",), lists)
    columns = Columns(ids, numeric.astype(np.float32), {"items": Ragged(offsets, listed)}, labels)
    return inputs, columns


def fitted(inputs: InputSpec, train: Columns) -> Any:
    return fit_simple(Rates.fit(inputs, train, PARENTS), PARENTS, [0.0, -1.0])


def given_auc(columns: Columns, logits: NDArray[np.float64], step: int) -> float:
    assert columns.labels is not None
    rows = (columns.labels[:, 1] != 255) & ((columns.labels[:, 0] == 1) | (step == 0))
    return float(roc_auc_score(columns.labels[rows, step], logits[rows, step]))


def test_the_column_that_decides_is_found_by_step() -> None:
    """The number goes up and down with the click, so only its bins can tell; the bound is what the process allows."""
    inputs, train_rows = drawn(6000)
    simple = fitted(inputs, train_rows)
    assert simple.column(0) == "x" and simple.column(1) in ("items", "newest items")
    assert simple.rates.columns == ["noise", "x", "items", "newest items"]
    _, rows = drawn(4000, seed=1)
    found = simple.logits(rows)
    truth = -2 * np.cos(3 * rows.numeric[:, :1].astype(np.float64)).repeat(2, 1)
    best = given_auc(rows, truth, 0)
    assert given_auc(rows, found[COLUMN], 0) > best - 0.01
    assert given_auc(rows, found[LOGISTIC], 0) > best - 0.015 and given_auc(rows, found[SUM], 0) > best - 0.1
    assert given_auc(rows, found[LOGISTIC], 1) > 0.6
    assert np.all(found[CONSTANT] == [0.0, -1.0])


def test_a_training_row_is_read_by_the_labels_of_others() -> None:
    """With its own labels changed its numbers stay as they are, bit for bit."""
    inputs, rows = drawn(500)
    assert rows.labels is not None
    before = Rates.fit(inputs, rows, PARENTS).of_training(np.arange(20))
    for row in range(20):
        labels = rows.labels.copy()
        labels[row] = 1 - np.minimum(labels[row], 1)
        changed = Columns(rows.ids, rows.numeric, rows.ragged, labels)
        found = Rates.fit(inputs, changed, PARENTS).of_training(np.array([row]))
        assert np.array_equal(found.rates[0], before.rates[row]) and np.array_equal(found.others[0], before.others[row])


def test_shuffled_labels_give_chance_in_training_too() -> None:
    inputs, train_rows = drawn(8000, shuffled=True)
    simple = fitted(inputs, train_rows)
    _, rows = drawn(4000, seed=1)
    out_of_fold = simple.rates.of_training(np.arange(8000)).rates
    for name in (COLUMN, SUM, LOGISTIC):
        assert abs(given_auc(rows, simple.logits(rows)[name], 0) - 0.5) < 0.035, name
    for column in range(out_of_fold.shape[1]):
        assert abs(given_auc(train_rows, np.log(out_of_fold[:, column]), 0) - 0.5) < 0.025


def test_rates_are_those_of_the_columns() -> None:
    """Of an id: (reached + 20 · prior) / (rows + 20); unknown ids have the prior; counts are log(1 + rows)."""
    inputs, rows = drawn(300)
    rates = Rates.fit(inputs, rows, PARENTS)
    assert rows.labels is not None
    _, others = drawn(40, seed=2)
    view = rates(others)
    prior = rows.labels[:, 0].mean()
    for i in range(40):
        same = rows.ids[:, 0] == others.ids[i, 0] if others.ids[i, 0] else np.zeros(300, bool)
        expected = (rows.labels[same, 0].sum() + 20 * prior) / (same.sum() + 20)
        assert view.rates[i, 0, 0] == pytest.approx(expected, rel=1e-5)
        assert view.others[i, 0] == pytest.approx(np.log1p(same.sum()), rel=1e-6)
        length = len(others.ragged["items"].take(np.array([i])).ids)
        assert view.others[i, 2] == pytest.approx(np.log1p(length), rel=1e-6)
        assert view.others[i, 3] == pytest.approx(others.numeric[i, 0], rel=1e-6)


def test_a_sample_is_the_same_each_time_and_ascending() -> None:
    assert np.array_equal(sample(10, 10), np.arange(10))
    assert np.array_equal(sample(1000, 50), sample(1000, 50)) and len(np.unique(sample(1000, 50))) == 50
    assert np.all(np.diff(sample(1000, 50)) > 0)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return tiny.write_table(tmp_path_factory.mktemp("baselines") / "table", train=1500, dev=500, test=600)


@pytest.fixture(scope="module")
def shared(table: Table) -> Baselines:
    return Baselines(table)


WORSE: dict[str, Any] = {"optimizer": {"learning_rate": 1e-7, "batch_size": 512}, "stages": [{"epochs": 1}]}
"""A network that learns nothing."""


def test_a_run_says_that_it_is_not_above_them(table: Table, tmp_path: Path) -> None:
    summary = train_seeds(tiny.experiment(**WORSE), table, out=tmp_path / "run")
    results = json.loads((tmp_path / "run/results.json").read_text())
    for part in ("dev", "test"):
        for name, metrics in results[part].items():
            beside = metrics["baselines"]
            assert list(beside["figures"]) == [CONSTANT, COLUMN, SUM, LOGISTIC, LIGHTGBM]
            assert beside["best"] == results["dev"][name]["baselines"]["best"] != CONSTANT
        assert summary["baselines"][part]["click"] == results[part]["click"]["baselines"]["figures"]
    click = results["test"]["click"]["baselines"]
    assert click["figures"][LOGISTIC]["auc"]["estimate"] > 0.6 and click["auc_difference"]["high"] < 0
    (said,) = [text for text in summary["not_above_baselines"] if text.startswith("seed 0, test: click:")]
    assert f" AUC is below that of {click['best']}: −" in said and "; log-loss is worse than that of" in said
    report(tmp_path / "run")
    text = (tmp_path / "run/report/report.md").read_text()
    assert f"The model's AUC is below that of {click['best']}: −" in text and "## Baselines, test rows" in text


def test_without_them_there_are_none(table: Table, tmp_path: Path) -> None:
    """Nor where a finished run is opened again."""
    run = train(tiny.experiment(**WORSE), table, tmp_path / "run", baselines=False)
    second = train(tiny.experiment(**WORSE), table, tmp_path / "run")
    assert second.results == run.results and "baselines" not in str(run.results)
    assert train_seeds(tiny.experiment(**WORSE), table, out=tmp_path / "run")["baselines"] == {}


def test_seeds_share_them_and_a_resumed_run_has_them(
    table: Table, shared: Baselines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[int] = []

    def counted(*arguments: Any) -> Any:
        fits.append(1)
        return fit_simple(*arguments)

    monkeypatch.setattr(measure, "fit_simple", counted)
    train_seeds(tiny.experiment(**WORSE), table, 2, out=tmp_path / "out")
    assert fits == [1]
    runs = [json.loads((tmp_path / f"out/seed-{seed}/results.json").read_text()) for seed in (0, 1)]
    figures = [run["test"]["conversion"]["baselines"]["figures"] for run in runs]
    assert figures[0] == figures[1] and runs[0]["test"]["click"]["auc"] != runs[1]["test"]["click"]["auc"]

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(measure, "fit_simple", stop)
    with pytest.raises(KeyboardInterrupt):
        train(tiny.experiment(**WORSE), table, tmp_path / "killed")
    assert not (tmp_path / "killed/results.json").exists()
    monkeypatch.setattr(measure, "fit_simple", fit_simple)
    assert train(tiny.experiment(**WORSE), table, tmp_path / "killed").results == runs[0]


def test_the_test_part_stays_closed_where_it_is_not_asked_for(table: Table, tmp_path: Path) -> None:
    opened: list[str] = []

    class Watched(Table):
        def part(self, name: str) -> Columns:
            opened.append(name)
            return super().part(name)

    watched = Watched(table.folder, table.manifest)
    found = train(tiny.experiment(**WORSE), watched, tmp_path / "run", parts=("dev",)).results
    assert "test" not in opened and list(found) == ["dev"] and found["dev"]["click"]["baselines"]
    opened.clear()

    def at_the_end(stage: str, *_: Any, **__: Any) -> None:
        assert stage == "baselines" or "test" not in opened

    train(tiny.experiment(**WORSE), watched, tmp_path / "both", progress=at_the_end)
    assert "test" in opened


def test_reach_falls_along_the_funnel_and_a_table_has_one_answer(table: Table, shared: Baselines) -> None:
    one, two = shared._of("test"), Baselines(table)._of("test")
    for name, (log_p, log_q) in one.reach.items():
        assert np.all(log_p[:, 1] <= log_p[:, 0]) and np.all(log_p <= 0) and np.isfinite(log_q).all(), name
        assert np.array_equal(log_p, two.reach[name][0]), name


def test_parallel_labels_and_a_step_that_nobody_reached(tmp_path: Path) -> None:
    features = {"user": "categorical", "item": "categorical", "price": "numeric"}
    schema = Schema.from_dict({"name": "both", "funnel": "click; conversion", "features": features})
    encoder = tiny.fitted_encoder(schema=schema)
    encoder = type(encoder)(schema, encoder.vocabularies, {"price": encoder.numbers["price"]})
    log = tiny.draw_log(900)
    never = log.set_column(log.column_names.index("conversion"), "conversion", pa.array([0] * 900, pa.int8()))
    with new_folder(tmp_path / "table") as partial, TableWriter(partial) as writer:
        for place, part in enumerate(("train", "dev", "test")):
            rows = tiny.encoded(never.slice(300 * place, 300), encoder)
            writer.part(part).append(Columns(rows.ids, rows.numeric, labels=rows.labels), None)
        writer.finish(encoder, {})
    scored = Baselines(Table.open(tmp_path / "table"))._of("test")
    for name, (log_p, _) in scored.reach.items():
        assert np.exp(log_p[:, 1]).max() < 0.02, name
        assert name == CONSTANT or scored.metrics[name].outputs["click"].auc.estimate > 0.5
