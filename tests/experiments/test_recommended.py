"""Everything that trains or scores networks takes `recommended`: target statistics, members, leaky ReLUs, averages."""

import itertools
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from funnelcast.benchmarks.estimate import probe
from funnelcast.boosting.stacked import network_of
from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns
from funnelcast.data.loader import Loader
from funnelcast.data.progress import Progress
from funnelcast.data.statistics import log_odds
from funnelcast.data.table import Table
from funnelcast.evaluation.distribution import distribution
from funnelcast.evaluation.funnel import measure_funnel
from funnelcast.evaluation.score import score
from funnelcast.experiments import adaptation_start
from funnelcast.experiments.evaluate import evaluate, measure_part
from funnelcast.experiments.fit import build_model
from funnelcast.experiments.predict import predict_file
from funnelcast.experiments.run import Run, train
from funnelcast.experiments.statistics import with_statistics
from funnelcast.fewshot.from_scratch import Scratch
from funnelcast.fewshot.run import few_shot
from funnelcast.fewshot.tasks import TaskOutput
from funnelcast.kernels.cpu import why_no_bfloat16
from funnelcast.layers.statistics import StatisticsLayer
from funnelcast.models.network import FunnelModel, NetworkRecipe
from funnelcast.reports.diagnosis.diagnose import diagnose_run
from funnelcast.reports.write import report
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.predictor import Predictor, load, probabilities
from funnelcast.training.adapting import Adapting
from funnelcast.training.objective import Objective
from tests.experiments import recommended

KEPT = 0.6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recommended") / "log"


@pytest.fixture(scope="module")
def table(folder: Path) -> Table:
    return recommended.write_table(folder)


@pytest.fixture(scope="module")
def run(table: Table, folder: Path) -> Run:
    return train(recommended.experiment(keep_negatives=KEPT), table, folder / "run", baselines=False)


@pytest.fixture(scope="module")
def rows(table: Table, folder: Path) -> pa.Table:
    return pq.read_table(folder / "test.parquet")


def layer_of(bundle: Bundle) -> StatisticsLayer:
    layer = network_of(bundle.model).statistics
    assert layer is not None
    return layer


def test_raw_rows_files_and_tables_have_the_figures_of_evaluate(
    run: Run, table: Table, folder: Path, rows: pa.Table, tmp_path: Path
) -> None:
    predictor = load(run.folder / "bundle")
    expected = probabilities(predictor.funnel, measure_part(run.bundle, table, "test").log_p)
    predict_file(predictor, folder / "test.parquet", tmp_path / "raw.parquet")
    predict_file(predictor, table.folder, tmp_path / "table.parquet")
    for found in (predictor.predict(rows), *(pq.read_table(tmp_path / f"{n}.parquet") for n in ("raw", "table"))):
        assert all(np.array_equal(found[name].to_numpy(), p) for name, p in expected.items())
    said = {
        name: {k: v for k, v in metrics.items() if k != "stacking"} for name, metrics in run.results["test"].items()
    }
    assert said == evaluate(run.bundle, table)["outputs"]
    assert len(evaluate(run.bundle, table, by="item")["groups"]["click"]["by_group"]) > 5


def test_few_rows_have_the_bits_of_the_model_each_time(run: Run, rows: pa.Table) -> None:
    predictor, few = Predictor(run.bundle), rows.slice(0, 20)
    encoded = run.bundle.encoder.encode(few.combine_chunks().to_batches()[0])
    reach = cast(FunnelModel, run.bundle.model).score(Batch.of(encoded))
    assert layer_of(run.bundle)(Batch.of(encoded).slice(0, 20)).any()
    first = predictor.predict(few)
    assert reach.log_p.shape == (20, 2) and all(predictor.predict(few).equals(first) for _ in range(3))
    plain = replace(run.bundle, experiment={**run.bundle.experiment, "keep_negatives": 1.0})
    found = Predictor(plain).predict(few)["p_click"].to_numpy()
    assert np.array_equal(found, np.exp(reach.log_p[:, 0].double().numpy()))


def test_shared_values_count_as_if_every_row_had_them(run: Run, rows: pa.Table) -> None:
    shared = ["user", "age", "tags", "tag_weights", "seen"]
    own, predictor = rows.slice(0, 9), Predictor(run.bundle)
    value: dict[str, Any] = {"user": "u3", "age": 40.0, "tags": [1, 2], "tag_weights": [1.0, 2.0], "seen": [3, 99]}
    columns = {name: pa.array([value[name]] * 9, own.schema.field(name).type) for name in shared}
    repeated = pa.table({**{name: own[name] for name in own.column_names}, **columns})
    found = predictor.predict(own.drop_columns(shared), shared=value)
    assert found.equals(predictor.predict(repeated)) and len(set(found["p_click"].to_pylist())) == 9


def test_what_is_unknown_missing_or_empty_reads_as_all_rows_do(run: Run, rows: pa.Table) -> None:
    row = rows.slice(0, 1).to_pylist()[0]
    unknown = row | {"user": "nobody", "item": 10**9, "tags": [10**9], "seen": [10**9], "tag_weights": [2.0]}
    missing = row | {"user": None, "item": None, "tags": [], "seen": [], "tag_weights": []}
    both = pa.Table.from_pylist([unknown, missing], rows.schema)
    layer, encoded = layer_of(run.bundle), run.bundle.encoder.encode(both.combine_chunks().to_batches()[0])
    read, size = layer(Batch.of(encoded).slice(0, 2)), len(layer.targets) + 1
    for i, name in enumerate(layer.widths):
        own = read[:, i * size : (i + 1) * size - 1]
        is_known = name.removeprefix("statistics of ") in ("last", "price", "age")
        assert bool(own.any()) == is_known, name
    p = Predictor(run.bundle).predict(both)["p_click"].to_numpy()
    assert np.isfinite(p).all() and ((p > 0) & (p < 1)).all()


@pytest.mark.skipif(bool(why_no_bfloat16()), reason=why_no_bfloat16())
def test_bfloat16_has_about_two_digits(run: Run, rows: pa.Table) -> None:
    exact, rough = (
        Predictor(run.bundle, precision=p).predict(rows)["p_click"].to_numpy() for p in ("float32", "bfloat16")
    )
    assert not np.array_equal(exact, rough) and np.abs(exact - rough).max() < 0.01


def test_sampled_negatives_are_all_that_counts(run: Run, table: Table) -> None:
    """In the statistics, and in the log odds that biases start at."""
    columns, layer = table.part("train"), layer_of(run.bundle)
    chosen = Loader.of(columns, 1, 0, KEPT).chosen
    assert chosen is not None and columns.labels is not None and columns.weight is not None
    used = np.intersect1d(chosen.numpy(), np.flatnonzero(columns.weight))
    weight, clicks = columns.weight[used].astype(float), columns.labels[used, 0]
    everyone = layer.fitted.everyone
    assert everyone is not None and 0 < len(used) < len(columns)
    assert everyone.observed[0, 0, 0] == weight.sum() and everyone.reached[0, 0, 0] == weight[clicks == 1].sum()
    assert everyone.rows[0, 0] == len(used)
    item = table.encoder.inputs.fields[1][0]
    ids = columns.ids[used, 1]
    expected = np.bincount(ids, weight * (clicks == 1), len(layer.fitted.tallies[item].reached[0]))
    expected[0] = layer.fitted.tallies[item].reached[0, 0, 0]
    assert np.array_equal(layer.fitted.tallies[item].reached[0, :, 0], expected)
    odds = log_odds(layer.fitted.tallies[item], everyone, layer.fitted.strengths[item])
    assert not odds[0, 0].any() and odds[0, 1:].any()


@pytest.mark.slow
def test_how_tasks_differ_is_measured_on_rows_that_do_not_read_their_own_labels(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = list[Columns]()

    def measure(model: FunnelModel, rows: Columns, *_: Any) -> list[float]:
        assert model.statistics is not None and model.statistics.by_fold is not None
        measured.append(rows)
        return [0.5, 0.5]

    monkeypatch.setattr(adaptation_start, "differences", measure)
    stages = [{"epochs": 1, "patience": 1, "meta": {"by": "campaign", "inner": "top", "steps": 1}}]
    made = train(
        recommended.experiment(stages=stages, unknown_ids=0.0), table, tmp_path / "run", parts=(), baselines=False
    )
    assert [rows.fold is not None for rows in measured] == [True] and layer_of(made.bundle).by_fold is None


def test_training_rows_are_measured_as_they_were_trained_on(run: Run, table: Table) -> None:
    """By the statistics of other folds; where folds, or here the sampled rows, are not those of the training, by what
    counts a row's own label, and that is said."""
    network = replace(run.bundle, model=network_of(run.bundle.model))
    found = evaluate(network, table, "train")
    experiment, train = recommended.experiment(keep_negatives=KEPT), table.part("train")
    model = build_model(experiment, run.bundle.encoder)
    rows = with_statistics(experiment, table, model, train)
    model.load_state_dict(network_of(network.model).state_dict())
    assert rows.fold is not None and train.labels is not None
    log_p, log_q = score(model, rows, KEPT)
    expected = measure_funnel(table.schema.funnel, train.labels, log_p, log_q, train.weight)
    assert "note" not in found and "note" not in evaluate(run.bundle, table)
    p = probabilities(table.schema.funnel, log_p)
    for name, metrics in expected.outputs.items():
        own = {**metrics.as_dict(), "warnings": [], "predicted": distribution(p[f"p_{name}"])}
        assert own == {**found["outputs"][name], "warnings": []}
    other = replace(network, experiment={**network.experiment, "seed": 1})
    flattered = evaluate(other, table, "train")
    assert flattered["note"].startswith("training rows read target statistics that count their own labels")
    assert flattered["outputs"]["click"]["log_loss"] != found["outputs"]["click"]["log_loss"]
    assert layer_of(run.bundle).by_fold is None


def test_steps_are_compared_on_rows_that_do_not_read_their_own_labels(
    run: Run, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the statistics that others read are those of the bundle."""
    seen = list[tuple[FunnelModel, Batch]]()

    def compare(objective: Objective, loader: Loader, steps: tuple[str, ...]) -> list[Any]:
        seen.append((objective.model, next(loader.epoch(0))))
        return []

    monkeypatch.setattr("funnelcast.reports.diagnosis.diagnose.conflict", compare)
    diagnose_run(run.folder, table.folder)
    ((model, batch),) = seen
    own, expected = (
        each.fitted.arrays() for each in (layer_of(replace(run.bundle, model=model)), layer_of(run.bundle))
    )
    assert batch.fold is not None and all(np.allclose(own[name], values) for name, values in expected.items())


@pytest.mark.slow
def test_diagnosis_report_and_estimate(run: Run, table: Table, tmp_path: Path) -> None:
    diagnosis = diagnose_run(run.folder, table.folder)
    assert {"epochs", "scores", "gates", "conflict", "time"} <= set(diagnosis)
    assert report(run.folder, tmp_path / "report")["kind"] == "run"
    experiment = recommended.experiment()
    assert probe(experiment, table, tmp_path / "probe").seconds > 0


@pytest.mark.slow
def test_few_shot_compares_all_methods(run: Run, table: Table, tmp_path: Path) -> None:
    config = Adapting(steps=2, folds=2, prior=2)
    found = few_shot(run.bundle, table, tmp_path / "few", by="campaign", sizes=[0, 20], query=10, config=config)
    assert {"adapted", "from scratch"} <= set(found["methods"])
    losses = [each["estimate"] for own in found["methods"].values() for each in own["log_loss"]]
    assert np.isfinite(losses).all()


def test_from_scratch_reads_no_labels_of_its_own_rows(run: Run, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a row that is trained on reads does not change with its labels; what a row to predict reads does."""
    experiment, seen = recommended.experiment(), list[tuple[FunnelModel, Columns]]()
    monkeypatch.setattr(Scratch, "_train", lambda self, model, rows, held, rates: seen.append((model, rows)))
    target, recipe = TaskOutput.of(table.schema.funnel, "click"), cast(NetworkRecipe, experiment.model)
    scratch, support = (
        Scratch(recipe, run.bundle.encoder, target, experiment.loss),
        table.part("train").take(np.arange(60)),
    )
    scratch(support, support)
    ((model, trained),) = seen
    layer = model.statistics
    assert layer is not None and trained.fold is not None and trained.labels is not None
    assert len(trained) == 48 and set(trained.fold) == {0, 1, 2, 3}
    tally = layer.fitted.tallies["user"].reached[0, :, 0]
    assert trained.weight is not None
    expected = np.bincount(trained.ids[:, 0], trained.weight * (trained.labels[:, 0] == 1), len(tally))
    assert np.array_equal(tally, expected * (expected > 0)) and expected[1:].any()
    rows = Batch.of(trained).slice(0, len(trained))
    assert not torch.equal(layer(rows), layer(replace(rows, fold=None)))


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(table: Table, tmp_path: Path) -> None:
    """With statistics, sampled negatives, members and an average of parameters."""
    experiment = recommended.experiment(keep_negatives=KEPT, checkpoint_seconds=0.0)
    calls = list[str]()
    quick: dict[str, Any] = {"parts": (), "baselines": False}
    whole = train(experiment, table, tmp_path / "whole", **quick, progress=lambda *said: calls.append(said[0]))
    training = [i for i, stage in enumerate(calls) if "epoch" in stage]
    for call in (training[2], training[-2]):
        counted = itertools.count()

        def stop(*_: Any, call: int = call, counted: Any = counted) -> None:
            if next(counted) == call:
                signal.raise_signal(signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            train(experiment, table, tmp_path / str(call), **quick, progress=cast(Progress, stop))
        assert (tmp_path / str(call) / "checkpoint").is_dir()
        resumed = train(experiment, table, tmp_path / str(call), **quick)
        assert resumed.bundle.fingerprint == whole.bundle.fingerprint
