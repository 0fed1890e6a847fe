"""Support rows in target statistics: as if counted, for rows of the delta alone, and where held-out rows gain."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open

from funnelcast.cli.adapt import show_delta
from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns
from funnelcast.data.files import new_folder
from funnelcast.data.table import Table
from funnelcast.data.table_writer import TableWriter
from funnelcast.evaluation.score import score
from funnelcast.experiments.adapt import adapt_file
from funnelcast.experiments.run import train
from funnelcast.fewshot.methods import Adapted
from funnelcast.fewshot.tasks import TaskOutput
from funnelcast.layers.embedding import Embedded
from funnelcast.layers.statistics import StatisticsLayer
from funnelcast.serving.delta import Delta
from funnelcast.serving.predictor import Predictor
from funnelcast.training.adaptation import _folds, adapt
from funnelcast.training.adapting import Adapting
from funnelcast.training.added_statistics import AddedStatistics, added_rows, with_added
from funnelcast.training.statistics import fit_layer, folds_of
from tests import tiny
from tests.data.listed import FUNNEL, INPUTS, draw
from tests.serving.adapted import network, with_columns

MODEL: dict[str, Any] = {"name": "shared_bottom", "tower": [6], "tower_dropout": [], "activation": "leaky_relu"}
MODEL |= {"embedding_dim": 2, "statistics": {"crosses": [["user", "item"]], "bins": 4, "folds": 4}}
NAMES = ("user", "item", INPUTS.numeric[0], "tags", "history")
CONFIG = Adapting(steps=1, folds=3, new_ids="none", offsets=False, learning_rate=1e-9)
"""Parameters stay next to where they are."""


def draw_log(rows: int, seed: int, share: float = 0.85) -> pa.Table:
    """Of every four items the first two are clicked so often, the others as seldom; half of the clicks convert."""
    log, rng = tiny.draw_log(rows, seed), np.random.default_rng(seed)
    item = log["item"].to_numpy()
    click = rng.random(rows) < np.where(item // 2 % 2 == 0, share, 1 - share)
    labels = {"click": click.astype(np.int8), "conversion": (click & (rng.random(rows) < 0.5)).astype(np.int8)}
    return with_columns(log, **labels, weight=rng.integers(1, 3, rows).astype(np.float32))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """A network that reads the statistics of items."""
    folder, encoder = tmp_path_factory.mktemp("added"), tiny.fitted_encoder()
    with new_folder(folder / "table") as partial, TableWriter(partial) as writer:
        for seed, part in enumerate(("train", "dev")):
            log = draw_log(500, seed)
            writer.part(part).append(tiny.encoded(log, encoder), log.select(["campaign"]))
        writer.finish(encoder, {})
    stages = [{"epochs": 5, "patience": 5}]
    experiment = tiny.experiment(model=MODEL, stages=stages, optimizer={"learning_rate": 0.02, "batch_size": 64})
    made = train(experiment, Table.open(folder / "table"), folder / "run", parts=(), baselines=False)
    return Predictor(made.bundle)


def of_campaign(rows: int = 240, seed: int = 7, share: float = 0.15) -> pa.Table:
    """In which the other items are clicked."""
    return with_columns(draw_log(rows, seed, share), campaign="c")


def layer_of(seed: int = 0) -> StatisticsLayer:
    layer = StatisticsLayer(INPUTS, FUNNEL.parents, NAMES, [("user", "item")], bins=3)
    fit_layer(layer, Batch.of(draw(150, seed)), np.arange(150), folds_of(150, 4, 0), "other")
    return layer


def rows_of(columns: Columns) -> Batch:
    return Batch.of(columns).take(torch.arange(len(columns)))


def test_they_read_as_if_the_rows_had_been_counted() -> None:
    """Fields, numbers, pairs, lists with and without weights; each row by its own set. Once more by full tables."""
    layer, query = layer_of(), rows_of(draw(80, 3))
    sets = [added_rows(layer, Batch.of(draw(rows, seed)), 0.5) for seed, rows in ((1, 40), (2, 9))]
    assert all(set(added) == set(layer.names) for added in sets)
    which = torch.arange(80) % 3
    flat = torch.cat([torch.ones(80, 2), layer(query)], 1)
    found = AddedStatistics(layer, [*sets, {}])(Embedded(flat), query, which).flat
    expected = []
    for added in (*sets, {}):
        other = layer_of()
        other.set(with_added(layer.fitted, added))
        expected.append(other(query))
    assert torch.equal(found[:, :2], flat[:, :2])
    for i, own in enumerate(expected):
        torch.testing.assert_close(found[which == i, 2:], own[which == i], rtol=1e-5, atol=1e-5)
    assert torch.equal(found[which == 2], flat[which == 2])
    assert (found[which == 0] - flat[which == 0]).abs().max() > 0.1


def test_sums_are_those_of_a_loop() -> None:
    layer, columns = layer_of(), draw(60, 4)
    found = added_rows(layer, Batch.of(columns), 0.25)["user"]
    assert columns.labels is not None and columns.weight is not None
    for code, sums in zip(found.codes.tolist(), found.sums.tolist(), strict=True):
        own = np.flatnonzero(columns.ids[:, 0] == code)
        expected = np.zeros(2 * len(layer.targets) + 1)
        for row in own:
            share = 0.25 if columns.labels[row, 0] == 0 else 1.0
            expected[-1] += share
            for s, target in enumerate(layer.targets):
                label = columns.labels[row, target.step]
                if label != 255 and (target.given < 0 or columns.labels[row, target.given] == 1):
                    expected[s] += share * columns.weight[row]
                    expected[len(layer.targets) + s] += share * columns.weight[row] * label
        assert sums == pytest.approx(expected)
    assert found.codes.tolist() == sorted(set(columns.ids[:, 0].tolist()) - {0})


def test_support_rows_count_where_held_out_rows_gain(base: Predictor, tmp_path: Path) -> None:
    """For rows of the delta alone, and by their file."""
    delta, rows = base.adapt(of_campaign(), CONFIG, {"campaign": "c"}), of_campaign(80, 8)
    assert delta.statistics_loss is not None and delta.statistics_loss < min(delta.losses) - 0.02
    assert delta.held_out_loss == delta.statistics_loss and not delta.is_empty and not delta.reason
    adapted = base.with_deltas(delta)
    p, q = (each.predict(rows)["p_click"].to_numpy() for each in (adapted, base))
    clicks = np.array(rows["click"].to_pylist())
    assert np.log(np.where(clicks, p, 1 - p)).mean() > np.log(np.where(clicks, q, 1 - q)).mean() + 0.01
    others = with_columns(rows, campaign=["c", "d"] * 40)
    found = adapted.predict(others)["p_click"].to_numpy()
    assert np.array_equal(found[1::2], base.predict(others)["p_click"].to_numpy()[1::2])
    assert found[::2] == pytest.approx(p[::2], rel=1e-5)
    delta.save(tmp_path / "c.safetensors")
    second = Delta.load(tmp_path / "c.safetensors")
    assert base.with_deltas(second).predict(rows).equals(adapted.predict(rows))
    assert second.statistics_loss == delta.statistics_loss


def test_what_is_said_of_it(base: Predictor, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(of_campaign(), tmp_path / "rows.parquet")
    given = (base, tmp_path / "rows.parquet", tmp_path / "c.safetensors")
    (made,) = adapt_file(*given, key={"campaign": "c"}, config=CONFIG)["deltas"]
    delta = Delta.load(tmp_path / "c.safetensors")
    assert made["held_out_loss"] == {"before": delta.losses[0], "after": delta.statistics_loss}
    assert made["statistics"]["user"] == tiny.USERS and made["statistics"]["item"] == tiny.ITEMS
    show_delta(tmp_path / "c.safetensors", made)
    assert "by known values: user 12, item 20" in " ".join(capsys.readouterr().out.split())


def test_a_delta_scores_as_a_network_with_the_rows_in_its_statistics(base: Predictor) -> None:
    model, rows = copy.deepcopy(network(base.bundle)), of_campaign(80, 8)
    delta = base.adapt(of_campaign(), CONFIG, {"campaign": "c"})
    layer, support = model.statistics, Batch.of(tiny.encoded(of_campaign(), base.bundle.encoder))
    assert layer is not None
    layer.set(with_added(layer.fitted, added_rows(layer, support, 1.0)))
    model.load_state_dict({**model.state_dict(), **delta.parameters(model.state_dict())})
    expected = Predictor(replace(base.bundle, model=model)).predict(rows)
    for name, found in base.with_deltas(delta).predict_arrow(rows).items():
        np.testing.assert_allclose(found, expected[name].to_numpy(), rtol=1e-4)


def test_held_out_rows_do_not_read_their_own_labels(base: Predictor) -> None:
    """The loss is that of networks whose statistics count the other folds' rows alone."""
    model, columns = network(base.bundle), tiny.encoded(of_campaign(), base.bundle.encoder)
    assert base.bundle.starting is not None and columns.labels is not None and columns.weight is not None
    starting, total = replace(base.bundle.starting, weights=[1.0, 1.0]), 0.0
    found = adapt(model, starting, Batch.of(columns), CONFIG)
    for held in _folds(Batch.of(columns), CONFIG.folds, 0):
        other, query = copy.deepcopy(model), columns.take(np.flatnonzero(held))
        layer = other.statistics
        assert layer is not None and query.labels is not None and query.weight is not None
        rest = Batch.of(columns.take(np.flatnonzero(~held)))
        layer.set(with_added(layer.fitted, added_rows(layer, rest, 1.0)))
        log_p, log_q = score(other, query)
        total -= float((np.where(query.labels == 1, log_p, log_q).sum(1) * query.weight).sum())
    assert found.statistics_loss == pytest.approx(total / columns.weight.sum(), rel=1e-4)


def test_rows_that_tell_nothing_new_are_not_added(base: Predictor) -> None:
    found = [base.adapt(with_columns(draw_log(12, seed), campaign="c"), CONFIG) for seed in range(20, 28)]
    for delta in found:
        assert bool(delta.statistics) == (delta.statistics_loss is not None)
        assert delta.statistics_loss is None or delta.statistics_loss < delta.losses[delta.steps]
    assert not all(delta.statistics for delta in found)


def test_without_statistics_a_delta_and_its_file_are_as_before(base: Predictor, tmp_path: Path) -> None:
    plain = replace(base.adapt(of_campaign(), Adapting(steps=2, folds=2)), statistics={}, statistics_loss=None)
    plain.save(tmp_path / "plain.safetensors")
    with safe_open(tmp_path / "plain.safetensors", "pt") as file:
        head, names = file.metadata(), list(file.keys())
    assert "statistics_loss" not in head["content"] and all(name.startswith(("change.", "new.")) for name in names)
    assert base.with_deltas(plain)._deltas.added is None
    assert Delta.load(tmp_path / "plain.safetensors").statistics == {}


def test_replicas_share_the_statistics(base: Predictor) -> None:
    model, other = network(base.bundle), copy.deepcopy(network(base.bundle))
    assert model.statistics is not None and other.statistics is not None
    assert model.statistics.fitted is other.statistics.fitted and model.statistics is not other.statistics
    assert (
        other.statistics.columns()["user × item"]
        .codes(Batch.of(tiny.encoded(of_campaign(), base.bundle.encoder)))
        .any()
    )


def test_few_shot_figures_have_them_too(base: Predictor) -> None:
    bundle = base.bundle
    assert bundle.starting is not None
    support, query = (tiny.encoded(of_campaign(*at), bundle.encoder) for at in ((240, 7), (80, 8)))
    target = TaskOutput.of(base.funnel, "click")
    log_p, _ = Adapted(network(bundle), bundle.starting, CONFIG, target)(support, query)
    delta = base.adapt(of_campaign(), CONFIG, {"campaign": "c"})
    expected = base.with_deltas(delta).predict_arrow(of_campaign(80, 8))["p_click"]
    np.testing.assert_allclose(np.exp(log_p), expected, rtol=1e-4)
