"""Calibrated bundles: from training and by a call, and what predicts, adapts and reads them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import funnelcast
from funnelcast.calibration.calibration import FILE, Calibration, FieldOffsets
from funnelcast.calibration.config import CalibrationConfig
from funnelcast.calibration.step_map import StepMap
from funnelcast.data.table import Table
from funnelcast.errors import BundleError, ConfigError, FunnelcastError
from funnelcast.experiments.calibrate import aside_of, calibrate, left_aside
from funnelcast.experiments.evaluate import evaluate
from funnelcast.experiments.predict import predict_file
from funnelcast.experiments.repeat import train_seeds
from funnelcast.experiments.run import Run, train
from funnelcast.reports.diagnosis.diagnose import diagnose
from funnelcast.schema.dataset import Schema
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.predictor import Predictor
from funnelcast.training.adapting import Adapting
from tests.experiments import recommended
from tests.serving.adapted import adaptable, with_columns
from tests.tiny import draw_log

SHIFTED = (StepMap("affine", (0.0,), (1.0,), 1.0, 1.0), StepMap("affine", (0.0,), (-0.7,), 0.8, 0.8))
ITEMS = FieldOffsets("item", 1, [2, 5], [[0.5, 0.0], [-1.0, 0.3]], [0.1, 0.0])


def with_maps(bundle: Bundle, steps: tuple[StepMap, ...] = SHIFTED, offsets: FieldOffsets | None = ITEMS) -> Bundle:
    return replace(bundle, calibration=Calibration(steps, bundle.model.parents, 100, {}, offsets))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("calibrate") / "log"


@pytest.fixture(scope="module")
def table(folder: Path) -> Table:
    return recommended.write_table(folder, dev=400)


@pytest.fixture(scope="module")
def run(table: Table, folder: Path) -> Run:
    return train(recommended.experiment(stacking=None), table, folder / "run", baselines=False)


@pytest.fixture
def bundle(run: Run, tmp_path: Path) -> Path:
    run.bundle.save(tmp_path / "bundle")
    return tmp_path / "bundle"


def test_recommended_leaves_dev_rows_aside_and_says_what_they_bring(run: Run) -> None:
    own = run.bundle.calibration
    assert own is not None and own.rows == 200 and own.source["part"] == "dev"
    for part in ("dev", "test"):
        said = {name: metrics.get("calibration") for name, metrics in run.results[part].items()}
        assert said["conversion"] is None
        for step, name in enumerate(("click", "conversion_given_click")):
            assert said[name] == {key: getattr(own.steps[step], key) for key in ("kind", "gain", "error")}


def test_rows_left_aside_decide_nothing_of_the_model(run: Run, table: Table, folder: Path, tmp_path: Path) -> None:
    """Their labels are flipped round; those of as many other dev rows matter."""
    aside, models = aside_of(400, 0.5, 0), list[tuple[Bundle, Bundle]]()
    assert aside.sum() == 200
    for which in (aside, ~aside):
        dev, own = pq.read_table(folder / "dev.parquet"), tmp_path / str(len(models))
        flipped = {"click": pc.subtract(pa.scalar(1, pa.int8()), dev["click"]), "conversion": pa.scalar(0, pa.int8())}
        changed = {name: pc.if_else(pa.array(which), label, dev[name]) for name, label in flipped.items()}
        own.mkdir()
        pq.write_table(with_columns(dev, **{n: c.combine_chunks() for n, c in changed.items()}), own / "dev.parquet")
        logs: Any = {name: (own if name == "dev" else folder) / f"{name}.parquet" for name in ("train", "dev", "test")}
        funnelcast.prepare(recommended.SCHEMA, own / "table", **logs)
        experiment = recommended.experiment(stacking={"rounds": 40, "min_rows_per_leaf": 5, "patience": 2})
        before = train(experiment, table, own / "before", baselines=False)
        models.append((before.bundle, train(experiment, own / "table", own / "run", baselines=False).bundle))
    assert models[0][0].model.fingerprint == models[0][1].model.fingerprint
    assert models[0][0].calibration != models[0][1].calibration
    assert models[1][0].model.fingerprint != models[1][1].model.fingerprint


def test_rows_of_one_key_are_left_aside_together() -> None:
    keys = np.random.default_rng(0).integers(0, 50, 600)
    aside = aside_of(keys, 0.3, 1)
    assert all(len(set(aside[keys == key])) == 1 for key in range(50)) and len(np.unique(keys[aside])) == 15
    assert np.array_equal(aside, aside_of(keys, 0.3, 1)) and not np.array_equal(aside, aside_of(keys, 0.3, 2))


def test_a_table_that_is_split_by_a_key_leaves_whole_keys_aside(folder: Path, tmp_path: Path, table: Table) -> None:
    said = recommended.SCHEMA.model_dump(mode="json")
    schema = Schema.from_dict({**said, "split": {"by": "group", "column": "item", "dev": 0.5, "test": 0}})
    funnelcast.prepare(schema, tmp_path / "table", train=folder / "dev.parquet")
    by_item = Table.open(tmp_path / "table")
    kept, used = left_aside(CalibrationConfig(share=0.5), by_item, 0)
    assert used is not None and used.keys is not None and len(kept) + len(used.rows) == by_item.rows("dev")
    items = [set(rows.ids[:, 1].tolist()) for rows in (kept, used.rows)]
    assert all(items) and not items[0] & items[1]


def test_too_few_dev_rows_are_all_kept_for_stopping(tmp_path: Path) -> None:
    small = recommended.write_table(tmp_path / "log", dev=100)
    found = train(recommended.experiment(stacking=None), small, tmp_path / "run", baselines=False)
    plain = train(recommended.experiment(stacking=None, calibration=None), small, tmp_path / "plain", baselines=False)
    assert found.bundle.calibration is None and found.bundle.fingerprint == plain.bundle.fingerprint


def test_tables_and_raw_rows_are_predicted_alike(run: Run, table: Table, folder: Path, tmp_path: Path) -> None:
    own, rows = with_maps(run.bundle), pq.read_table(folder / "test.parquet")
    predict_file(own, table.folder, tmp_path / "table.parquet")
    predict_file(own, folder / "test.parquet", tmp_path / "rows.parquet")
    columns = Predictor(own).columns
    of_table, of_rows = (pq.read_table(tmp_path / f"{name}.parquet").select(columns) for name in ("table", "rows"))
    assert of_table.equals(of_rows) and of_rows.equals(Predictor(own).predict(rows).select(columns))
    own.save(tmp_path / "bundle")
    assert Predictor(Bundle.load(tmp_path / "bundle")).predict(rows).equals(Predictor(own).predict(rows))
    assert not Predictor(run.bundle).predict(rows).equals(Predictor(own).predict(rows))


def test_a_wrong_bundle_is_mended_by_new_rows(run: Run, folder: Path, tmp_path: Path) -> None:
    """Labels of new rows are drawn from what the bundle says with log odds moved by item."""
    log = recommended.draw_log(6000, seed=77)
    moved = FieldOffsets("item", 1, list(range(1, 21)), [[0.9 * (-1) ** i, 0.0] for i in range(20)], [0.0, 0.0])
    p = Predictor(with_maps(run.bundle, offsets=moved)).predict(log)
    rng = np.random.default_rng(0)
    click = rng.random(6000) < p["p_click"].to_numpy()
    conversion = click & (rng.random(6000) < p["p_conversion_given_click"].to_numpy())
    log = with_columns(log, click=click.astype(np.int8), conversion=conversion.astype(np.int8), weight=np.ones(6000))
    pq.write_table(log.slice(0, 3000), tmp_path / "new.parquet")
    run.bundle.save(tmp_path / "bundle")
    made = calibrate(tmp_path / "bundle", tmp_path / "new.parquet", tmp_path / "better", by="item")
    assert made["rows"] == 3000 and made["offsets"]["item"] > 10
    assert [said["kind"] for said in made["steps"].values()] == ["affine", "affine"]
    assert all(said["gain"] > 2 * said["error"] for said in made["steps"].values())
    later, labels = log.slice(3000), click[3000:]
    before, after, truth = (
        Predictor(each).predict(later)["p_click"].to_numpy()
        for each in (run.bundle, Bundle.load(tmp_path / "better"), with_maps(run.bundle, offsets=moved))
    )
    losses = [-np.mean(np.log(np.where(labels, own, 1 - own))) for own in (before, after, truth)]
    assert losses[1] - losses[2] < 0.1 * (losses[0] - losses[2])
    assert (
        Bundle.load(tmp_path / "bundle").fingerprint
        == run.bundle.fingerprint
        != Bundle.load(tmp_path / "better").fingerprint
    )


def test_a_bundle_is_calibrated_in_its_own_place(bundle: Path, table: Table) -> None:
    made = calibrate(bundle, table)
    loaded = Bundle.load(bundle)
    assert made["bundle"] == str(bundle) and loaded.calibration is not None
    assert loaded.calibration.source == {"part": "test", **table.protocol} and loaded.calibration.rows == 240
    assert calibrate(bundle, table, replace=True)["steps"] == made["steps"]  # of the model, not of what it was


@pytest.mark.parametrize("part", ["train", "dev"])
def test_rows_of_the_training_are_refused(part: str, bundle: Path, table: Table) -> None:
    with pytest.raises(FunnelcastError, match=f"the {part} rows .* calibrate on its test part or on newer rows"):
        calibrate(bundle, table, part=part)


def test_what_cannot_be_is_refused_before_anything_is_written(
    bundle: Path, run: Run, table: Table, folder: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in bundle.rglob("*")}
    log = pq.read_table(folder / "test.parquet")
    pq.write_table(log.drop_columns(["click"]), bundle.parent / "no.parquet")
    with pytest.raises(ConfigError, match="'itm' is no id feature of the table; did you mean 'item'"):
        calibrate(bundle, table, by="itm")
    with pytest.raises(FunnelcastError, match="not empty|exists"):
        calibrate(bundle, table, folder)
    with pytest.raises(FunnelcastError, match=r"no\.parquet: the rows lack the label column 'click'"):
        calibrate(bundle, bundle.parent / "no.parquet")
    with pytest.raises(FunnelcastError, match="nowhere to write"):
        calibrate(run.bundle, table)
    assert {path: path.stat().st_mtime_ns for path in bundle.rglob("*")} == before


def test_a_calibration_that_was_changed_is_refused(run: Run, tmp_path: Path) -> None:
    with_maps(run.bundle).save(tmp_path / "bundle")
    path = tmp_path / "bundle" / FILE
    path.write_text(path.read_text().replace("1.0", "1.5", 1))
    with pytest.raises(BundleError, match=FILE):
        Bundle.load(tmp_path / "bundle")
    path.unlink()
    with pytest.raises(BundleError, match=FILE):
        Bundle.load(tmp_path / "bundle")


def test_evaluation_and_summary_read_it(run: Run, table: Table, folder: Path) -> None:
    plain, own = (evaluate(each, table)["outputs"]["click"] for each in (run.bundle, with_maps(run.bundle)))
    assert own["log_loss"] != plain["log_loss"]
    summary = train_seeds(recommended.experiment(stacking=None), table, out=folder / "run", baselines=False)
    (said,) = summary["calibration"]
    assert said.startswith("seed 0: click ") and "; conversion_given_click " in said


def test_the_diagnosis_has_curves_before_and_after(run: Run, table: Table, tmp_path: Path) -> None:
    with_maps(run.bundle).save(tmp_path / "run/bundle")
    (tmp_path / "run/results.json").write_text(json.dumps(run.results))
    (tmp_path / "run/log.jsonl").write_text("")
    curves = diagnose(tmp_path / "run", table)["calibration"]["click"]
    assert [curve["group"] for curve in curves] == [None, "before calibration"]
    assert curves[0]["bins"] != curves[1]["bins"] and curves[0]["rows"] == curves[1]["rows"]


def shifted() -> Bundle:
    """Whose log odds are all too low by 1, which calibration mends."""
    return with_maps(adaptable(), (SHIFTED[0], StepMap()), None)


def labelled(bundle: Bundle, rows: int) -> pa.Table:
    """Rows whose labels are drawn from what a bundle says."""
    log, rng = draw_log(rows, seed=5), np.random.default_rng(6)
    p = Predictor(bundle).predict(log)
    click = rng.random(rows) < p["p_click"].to_numpy()
    conversion = click & (rng.random(rows) < p["p_conversion_given_click"].to_numpy())
    return with_columns(log, click=click.astype(np.int8), conversion=conversion.astype(np.int8), weight=np.ones(rows))


@pytest.mark.parametrize("offsets", [True, False])
def test_adapting_corrects_nothing_that_calibration_has_corrected(offsets: bool) -> None:
    bundle = shifted()
    rows = labelled(bundle, 3000)
    delta = Predictor(bundle).adapt(rows, Adapting(steps=1, folds=2, offsets=offsets, new_ids="none"))
    click = rows["click"].to_numpy()
    before, after = (
        each.predict(rows)["p_click"].to_numpy() for each in (Predictor(bundle), Predictor(bundle, [delta]))
    )
    assert before.mean() == pytest.approx(click.mean(), rel=0.05)
    assert after.mean() == pytest.approx(click.mean(), rel=0.05)
    assert delta.is_empty is not offsets


def test_adapted_rows_are_calibrated_and_others_are_the_bundles_own() -> None:
    bundle = with_maps(adaptable())
    plain = replace(bundle, calibration=None)
    rows = labelled(bundle, 400)
    delta = Predictor(bundle).adapt(rows.slice(0, 100), Adapting(steps=2, folds=2), {"campaign": "1"})
    assert not delta.is_empty
    found = Predictor(bundle, [delta]).predict(rows)
    uncalibrated = Predictor(plain, [replace(delta, base=plain.fingerprint)]).predict(rows)
    is_own = rows["campaign"].to_numpy() == 1
    base = Predictor(bundle).predict(rows)
    for name in base.column_names:
        assert np.array_equal(found[name].to_numpy()[~is_own], base[name].to_numpy()[~is_own])
    odds = [np.log(p / (1 - p)) for p in (each["p_click"].to_numpy() for each in (uncalibrated, found))]
    ids = bundle.encoder.encode(rows.combine_chunks().to_batches()[0]).ids[:, 1]
    moved = np.array([dict(zip(ITEMS.ids, ITEMS.values, strict=True)).get(i, ITEMS.others)[0] for i in ids.tolist()])
    np.testing.assert_allclose(odds[1][is_own], (odds[0] + 1 + moved)[is_own], atol=1e-4)


def test_deltas_of_another_calibration_are_refused() -> None:
    bundle = shifted()
    delta = Predictor(bundle).adapt(labelled(bundle, 100), Adapting(steps=1, folds=2))
    with pytest.raises(FunnelcastError, match="adapt this one"):
        Predictor(replace(bundle, calibration=None), [delta])
