"""Target statistics of a warm start: the training rows' where they hold a value, else the bundle's, never both."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from funnelcast.boosting.stacked import network_of
from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns
from funnelcast.data.log.prepare import prepare
from funnelcast.data.table import Table
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.errors import FunnelcastError
from funnelcast.experiments.evaluate import evaluate
from funnelcast.experiments.experiment import Experiment
from funnelcast.experiments.fit import build_model
from funnelcast.experiments.run import Run, train
from funnelcast.experiments.warm_start import grown_encoder, warm_start
from funnelcast.layers.statistics import StatisticsLayer
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.predictor import Predictor
from harness.calls import call
from tests.experiments import recommended

QUICK: dict[str, Any] = {"parts": (), "baselines": False}
STILL = {**recommended.experiment().optimizer.model_dump(mode="json"), "learning_rate": 1e-30, "weight_decay": 0.0}
STILL |= {"embedding_decay": 0.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("warm") / "log"


@pytest.fixture(scope="module")
def table(folder: Path) -> Table:
    return recommended.write_table(folder)


@pytest.fixture(scope="module")
def run(table: Table, folder: Path) -> Run:
    return train(recommended.experiment(keep_negatives=0.7), table, folder / "run", **QUICK)


@pytest.fixture(scope="module")
def later(run: Run, folder: Path) -> Run:
    """Of a log in which u0 to u5 are gone and u90 is new, half of the items are gone, and clicks are rare; parameters
    stay as they are."""
    log = recommended.draw_log(900, 7)
    user = log["user"].to_pylist()
    names = pa.array(["u90" if name == "u11" else name for name in user])
    log = log.set_column(log.column_names.index("user"), "user", names)
    chosen = [
        name not in {f"u{i}" for i in range(6)} and item % 2 == 0
        for name, item in zip(user, log["item"].to_pylist(), strict=True)
    ]
    rare = np.array(chosen) & ((log["click"].to_numpy() == 0) | (np.arange(900) % 3 == 0))
    pq.write_table(log.filter(pa.array(rare)), folder / "later.parquet")
    prepare(
        recommended.SCHEMA,
        folder / "later",
        train=folder / "later.parquet",
        dev=folder / "dev.parquet",
        init=run.bundle.encoder,
    )
    experiment = recommended.experiment(keep_negatives=1.0, optimizer=STILL)
    return train(experiment, Table.open(folder / "later"), folder / "later-run", init=run.bundle, **QUICK)


def layer_of(bundle: Bundle) -> StatisticsLayer:
    layer = network_of(bundle.model).statistics
    assert layer is not None
    return layer


def read(bundle: Bundle, log: pa.Table) -> tuple[Columns, dict[str, np.ndarray[Any, Any]]]:
    """The encoded rows, and what each reads of each category."""
    layer, columns = layer_of(bundle), bundle.encoder.encode(log.combine_chunks().to_batches()[0])
    numbers, size = layer(Batch.of(columns).slice(0, len(columns))).numpy(), len(layer.targets) + 1
    return columns, {name: numbers[:, i * size : (i + 1) * size] for i, name in enumerate(layer.names)}


def test_before_any_training_they_are_the_bundles_whatever_the_ids(run: Run) -> None:
    rng, known = np.random.default_rng(0), run.bundle.encoder
    changed = {}
    for name, vocabulary in known.vocabularies.items():
        own = vocabulary.values.take(pa.array(rng.permutation(len(vocabulary.values))[1:]))
        new = pa.array(["new", "newer"] if pa.types.is_string(own.type) else [998, 999], own.type)
        changed[name] = Vocabulary(pa.concat_arrays([new, own]))
    grown = grown_encoder(replace(known, vocabularies=changed), run.bundle)
    experiment = recommended.experiment(keep_negatives=0.7)
    model = build_model(experiment, grown)
    warm_start(model, grown, run.bundle, 0.7)
    warm, log = replace(run.bundle, model=model, encoder=grown), recommended.draw_log(300, 9)
    columns, numbers = read(warm, log)
    before, expected = read(run.bundle, log)
    assert not np.array_equal(columns.ids, before.ids)
    assert all(np.array_equal(numbers[name], own) and own.any() for name, own in expected.items())
    network = replace(run.bundle, model=network_of(run.bundle.model))
    assert Predictor(warm).predict(log).equals(Predictor(network).predict(log))


def test_what_training_rows_hold_has_their_statistics_alone(run: Run, later: Run, folder: Path) -> None:
    fitted, before, rows = (
        layer_of(later.bundle).fitted,
        layer_of(run.bundle).fitted,
        Table.open(folder / "later").part("train"),
    )
    assert rows.weight is not None and rows.labels is not None
    users = later.bundle.encoder.vocabularies["user"].values.to_pylist()
    held = np.unique(rows.ids[rows.weight > 0, 0])
    clicks = np.bincount(rows.ids[:, 0], rows.weight * (rows.labels[:, 0] == 1), len(users) + 1)
    own = fitted.tallies["user"].reached[0, :, 0]
    assert {users[i - 1] for i in held if i} == {"u90", *(f"u{i}" for i in range(6, 14) if i != 11)}
    assert np.array_equal(own[held[held > 0]], clicks[held[held > 0]])
    for kind in ("edges", "strengths", "scales"):
        old, new = getattr(before, kind), getattr(fitted, kind)
        assert old.keys() == new.keys() and all(np.array_equal(new[name], values) for name, values in old.items())
    assert fitted.everyone is not None and fitted.everyone.rows[0, 0] <= len(rows)


def test_what_they_do_not_hold_reads_as_in_the_bundle(run: Run, later: Run) -> None:
    """Also where the rates of all rows are others, and negatives are sampled at another share."""
    log = recommended.draw_log(400, 11)
    gone = [str(name) in {f"u{i}" for i in range(6)} for name in log["user"].to_pylist()]
    (_, numbers), (_, expected) = (read(each.bundle, log.filter(pa.array(gone))) for each in (later, run))
    rates = [
        each.reached[0, 0] / each.observed[0, 0] for r in (run, later) if (each := layer_of(r.bundle).fitted.everyone)
    ]
    assert abs(np.log(rates[0][0] / rates[1][0])) > 0.3
    for name in ("user", "user × item"):
        assert np.abs(numbers[name] - expected[name]).max() < 1e-5 and expected[name].any(), name
    assert np.abs(numbers["item"] - expected["item"]).max() > 0.01
    odd = [item % 2 == 1 for item in log["item"].to_pylist()]
    (_, numbers), (_, expected) = (read(each.bundle, log.filter(pa.array(odd))) for each in (later, run))
    assert np.abs(numbers["item × price"] - expected["item × price"]).max() < 1e-5
    assert expected["item × price"].any()


def test_of_training_rows_it_is_said_that_they_read_their_own_labels(later: Run, folder: Path, tmp_path: Path) -> None:
    """Also where rows of the bundle that it started from are among the statistics; on the command line too."""
    said = evaluate(later.bundle, folder / "later", "train")["note"]
    assert "flatter the model; judge it on dev or test" in said
    answer = call("evaluate", later.folder / "bundle", folder / "later", "--part", "train")
    assert answer.code == 0 and f"WARNING: {said}" in answer.out
    boosted = {"name": "lightgbm", "rounds": 2, "ids": "target_statistics"}
    trees = train(Experiment.from_dict({"model": boosted}), Table.open(folder / "later"), tmp_path / "trees", **QUICK)
    assert evaluate(trees.bundle, folder / "later", "train")["note"] == said


def test_the_same_rows_again_count_once(run: Run, table: Table, tmp_path: Path) -> None:
    second = train(recommended.experiment(keep_negatives=0.7), table, tmp_path / "run", init=run.bundle, **QUICK)
    old, new = (layer_of(each.bundle).fitted.arrays() for each in (run, second))
    assert old.keys() == new.keys()
    assert all(np.array_equal(new[name], values) for name, values in old.items() if not name.startswith("observed"))
    assert all(np.allclose(new[name], values, rtol=1e-12) for name, values in old.items())


@pytest.mark.parametrize("change", [{"bins": 6}, {"crosses": []}, {"features": ["user"]}])
def test_other_settings_do_not_fit(run: Run, change: dict[str, Any]) -> None:
    model = build_model(recommended.experiment(change), run.bundle.encoder)
    with pytest.raises(
        FunnelcastError, match=r"the bundle reads target statistics of .*; use its \[model.statistics\]"
    ):
        warm_start(model, run.bundle.encoder, run.bundle, 0.7)


def test_every_member_starts_at_the_rate_that_its_negatives_have(run: Run) -> None:
    model, before = build_model(recommended.experiment(), run.bundle.encoder), network_of(run.bundle.model)
    warm_start(model, run.bundle.encoder, run.bundle, 1.0)
    assert model.output.bias is not None and before.output.bias is not None
    moved = (model.output.bias - before.output.bias).detach().view(4, 2).numpy()
    assert moved == pytest.approx(np.tile([np.log(0.7), 0.0], (4, 1)), abs=1e-6)
