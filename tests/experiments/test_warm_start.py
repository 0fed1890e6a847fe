"""A warm start: what the bundle knows is kept by the value it stands for, what is new is fresh."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from funnelcast.data.columns import UNOBSERVED
from funnelcast.data.encoder import Encoder
from funnelcast.data.loader import Loader
from funnelcast.data.log.prepare import prepare
from funnelcast.data.numeric import Bins, Standard
from funnelcast.data.table import Table
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.errors import FunnelcastError
from funnelcast.experiments.evaluate import evaluate
from funnelcast.experiments.fit import build_model
from funnelcast.experiments.predict import predict_file
from funnelcast.experiments.run import train
from funnelcast.experiments.warm_start import grown_encoder, warm_start
from funnelcast.layers.embedding import Embedding
from funnelcast.models.base import Model
from funnelcast.models.network import FunnelModel
from funnelcast.schema.dataset import Schema
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.predictor import Predictor
from funnelcast.training.losses import LossConfig, LossWeights, build_loss_weights
from tests import tiny
from tests.serving.test_bundle import bundle_of

USERS = ["new1", "u5", "u0", "u11", "new2"]
ITEMS = [50, 7, 3, 51]
DAILY = Schema.from_dict({**tiny.SCHEMA.model_dump(), "split": {"dev": 0.3, "test": 0}})


def encoder(**changes: Any) -> Encoder:
    """Of a later log: some ids of the bundle's, in another order, some new ones, most gone."""
    vocabularies = {"user": Vocabulary(pa.array(USERS)), "item": Vocabulary(pa.array(ITEMS))}
    parts: dict[str, Any] = {"schema": tiny.SCHEMA, "numbers": tiny.fitted_encoder().numbers}
    return Encoder(**{**parts, "vocabularies": vocabularies, **changes})


def started(init: Bundle, seed: int = 3) -> tuple[FunnelModel, Encoder]:
    grown = grown_encoder(encoder(), init)
    model = build_model(tiny.experiment(seed=seed), grown)
    warm_start(model, grown, init)
    return model, grown


def rows_of(model: Model, known: Encoder) -> dict[str, dict[Any, Tensor]]:
    """Embedding rows by vocabulary and value; None stands for row 0."""
    assert isinstance(model, FunnelModel)
    blocks = {name: rows for table in model.embedding.all_tables() for name, rows in table.blocks().items()}
    values = {name: [None, *v.values.to_pylist()] for name, v in known.vocabularies.items()}
    return {name: dict(zip(values[name], blocks[name], strict=True)) for name in values}


def test_the_vocabulary_is_the_tables_then_what_only_the_bundle_knows() -> None:
    users = grown_encoder(encoder(), bundle_of()).vocabularies["user"].values.to_pylist()
    assert users[:5] == USERS
    assert sorted(users[5:]) == sorted({f"u{i}" for i in range(12)} - set(USERS))


def test_rows_are_copied_by_value_and_new_ones_are_fresh() -> None:
    init = bundle_of()
    model, grown = started(init)
    fresh = rows_of(build_model(tiny.experiment(seed=3), grown), grown)
    for name, rows in rows_of(model, grown).items():
        old = rows_of(init.model, init.encoder)[name]
        assert set(old) < set(rows)
        for value, row in rows.items():
            assert torch.equal(row, old[value] if value in old else fresh[name][value]), (name, value)
    assert isinstance(init.model, FunnelModel)
    bins = model.embedding.all_tables()[0].blocks()["age"]
    assert torch.equal(bins, init.model.embedding.all_tables()[0].blocks()["age"])


def test_before_any_training_it_predicts_what_the_bundle_predicts() -> None:
    """On ids that the bundle knows, on those that nobody knows, and on missing ones."""
    init = bundle_of()
    model, grown = started(init)
    warm = Bundle(model, grown, init.experiment, init.protocol, init.rates, {})
    log = tiny.draw_log(300)
    assert Predictor(warm).predict(log).equals(Predictor(init).predict(log))
    new = log.set_column(0, "user", pa.array(["new1"] * 300))
    assert not Predictor(warm).predict(new).equals(Predictor(init).predict(new))


def test_a_warm_run_trains_what_it_sees_and_keeps_the_rest(tmp_path: Path) -> None:
    init = bundle_of()
    table = tiny.write_table(tmp_path / "table", encoder=encoder())
    run = train(tiny.experiment(), table, tmp_path / "run", init=init, baselines=False)
    assert run.results == {part: evaluate(run.bundle, table, part)["outputs"] for part in ("dev", "test")}
    rows, old = rows_of(run.bundle.model, run.bundle.encoder), rows_of(init.model, init.encoder)
    gone = set(old["user"]) - set(USERS) - {None}
    assert gone and all(torch.equal(rows["user"][value], old["user"][value]) for value in gone)
    assert all(not torch.equal(rows["user"][value], old["user"][value]) for value in ("u5", "u0", "u11", None))
    second = Bundle.load(run.folder / "bundle")
    assert Predictor(second).predict(tiny.draw_log(50)).equals(Predictor(run.bundle).predict(tiny.draw_log(50)))


def test_a_start_differs_from_a_fresh_one_by_the_bundle_alone(tmp_path: Path) -> None:
    table = tiny.write_table(tmp_path / "table")
    fresh = train(tiny.experiment(), table, tmp_path / "fresh")
    still = tiny.experiment(optimizer={"learning_rate": 1e-30})
    warm = train(still, table, tmp_path / "warm", init=fresh.bundle)
    assert warm.results == fresh.results
    assert warm.bundle.fingerprint == fresh.bundle.fingerprint


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle]:
    """Logs of two days, and the bundle of the first: on the second u0 to u3 are gone, u12 and u13 are new."""
    folder = tmp_path_factory.mktemp("days")
    log = tiny.draw_log(900)
    log = log.filter(log["click"].is_valid())  # so that negatives may be sampled
    user = np.array([int(str(value or "u13")[1:]) for value in log["user"].to_pylist()])
    for name, rows in (("one", user < 12), ("two", user >= 4)):
        pq.write_table(log.filter(rows), folder / f"{name}.parquet")
    prepare(DAILY, folder / "first", train=folder / "one.parquet")
    run = train(tiny.experiment(keep_negatives=0.6), Table.open(folder / "first"), folder / "run")
    prepare(
        DAILY, folder / "second", train=folder / "two.parquet", test=folder / "one.parquet", init=run.bundle.encoder
    )
    return folder, Bundle.load(folder / "run/bundle")


@pytest.mark.slow
def test_a_table_for_retraining_keeps_numbers_and_ids_and_grows(days: tuple[Path, Bundle]) -> None:
    folder, init = days
    before, after = init.encoder, Table.open(folder / "second").encoder
    assert after.numbers == before.numbers
    assert {type(number) for number in after.numbers.values()} == {Standard, Bins}
    assert prepared_alone(folder).encoder.numbers != before.numbers
    for name, vocabulary in before.vocabularies.items():
        assert after.vocabularies[name].values[: len(vocabulary.values)].equals(vocabulary.values)
    old = before.vocabularies["user"].values.to_pylist()
    assert after.vocabularies["user"].values.to_pylist() == [*old, "u12", "u13"] and {"u0", "u3"} <= set(old)


def prepared_alone(folder: Path) -> Table:
    prepare(DAILY, folder / "alone", train=folder / "two.parquet", replace=True)
    return Table.open(folder / "alone")


def test_a_retrained_model_knows_the_same_ids_in_a_table_and_in_raw_rows(
    days: tuple[Path, Bundle], tmp_path: Path
) -> None:
    """Those too that the new training rows lack; and it is measured on the old table as on the new one."""
    folder, init = days
    run = train(tiny.experiment(), Table.open(folder / "second"), tmp_path / "run", init=init)
    predict_file(run.folder / "bundle", folder / "one.parquet", tmp_path / "raw.parquet")
    predict_file(run.folder / "bundle", folder / "second", tmp_path / "table.parquet")
    raw, table = pq.read_table(tmp_path / "raw.parquet"), pq.read_table(tmp_path / "table.parquet")
    assert raw["p_conversion"].equals(table["p_conversion"]) and len(raw) > 300
    assert evaluate(run.bundle, Table.open(folder / "first"), "dev")["rows"] > 0
    trained = set(Table.open(folder / "second").part("train").ids[:, 0].tolist())
    seen = set(Table.open(folder / "second").part("test").ids[:, 0].tolist())
    assert {1, 2} & (seen - trained)


@pytest.mark.parametrize("keep", [0.25, 1.0])
def test_the_loss_is_scaled_by_the_rates_of_the_rows_trained_on(
    days: tuple[Path, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: float
) -> None:
    """Of the new table, with the negatives sampled away; not by those of the bundle that it starts from."""
    folder, init = days
    found: list[list[float]] = []

    def build(config: LossConfig, rates: list[float], given: list[float] | None) -> LossWeights:
        found.append(rates)
        return build_loss_weights(config, rates, given)

    monkeypatch.setattr("funnelcast.experiments.fit.build_loss_weights", build)
    table, experiment = Table.open(folder / "second"), tiny.experiment(keep_negatives=keep)
    train(experiment, table, tmp_path / "run", init=init)
    rows = next(Loader.of(table.part("train"), 10**6, experiment.seed, keep).epoch(0))
    assert rows.labels is not None and rows.weight is not None
    weight = (rows.labels != UNOBSERVED) * rows.weight[:, None]
    rates = ((rows.labels == 1) * weight).sum(0) / weight.sum(0)
    np.testing.assert_allclose(found, [rates], rtol=0.1 if keep < 1 else 1e-6)
    assert abs(found[0][0] / init.rates[0] - 1) > 0.1 or keep == 1


@pytest.mark.parametrize(("before", "after"), [(0.3, 1.0), (1.0, 0.3), (0.5, 0.2)])
def test_another_share_of_negatives_does_not_move_what_it_starts_from(before: float, after: float) -> None:
    init = bundle_of(keep_negatives=before)
    grown = grown_encoder(encoder(), init)
    experiment = tiny.experiment(keep_negatives=after)
    model = build_model(experiment, grown)
    warm_start(model, grown, init, after)
    warm = Bundle(model, grown, experiment.model_dump(mode="json"), init.protocol, init.rates, {})
    log = tiny.draw_log(300)
    expected = Predictor(init).predict(log)
    for name, found in Predictor(warm).predict_arrow(log).items():
        np.testing.assert_allclose(found, expected[name].to_numpy(), rtol=2e-5, err_msg=name)


def test_a_run_starts_from_what_the_bundle_says_whatever_its_share_of_negatives(
    days: tuple[Path, Bundle], tmp_path: Path
) -> None:
    folder, init = days
    still = tiny.experiment(keep_negatives=0.25, optimizer={"learning_rate": 1e-30})
    run = train(still, Table.open(folder / "second"), tmp_path / "run", init=init)
    log = pq.read_table(folder / "one.parquet")
    expected = Predictor(init).predict(log)
    for name, found in Predictor(run.bundle).predict_arrow(log).items():
        np.testing.assert_allclose(found, expected[name].to_numpy(), rtol=2e-5, err_msg=name)


def test_another_share_of_negatives_cannot_be_undone_for_independent_heads() -> None:
    model = tiny.MODEL | {"head": "independent"}
    init = bundle_of(model=model, keep_negatives=0.3)
    grown = grown_encoder(encoder(), init)
    with pytest.raises(FunnelcastError, match="with keep_negatives = 0.3, not 1; use the same"):
        warm_start(build_model(tiny.experiment(model=model), grown), grown, init, 1.0)
    warm_start(build_model(tiny.experiment(model=model), grown), grown, init, 0.3)


OTHER_SCHEMA = Schema.from_dict({**tiny.SCHEMA.model_dump(), "funnel": "click; conversion"})
TEXT_ITEMS = {"user": Vocabulary(pa.array(USERS)), "item": Vocabulary(pa.array(["a", "b"]))}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda: encoder(schema=OTHER_SCHEMA), "other features or another funnel; use the same schema"),
        (
            lambda: encoder(numbers=tiny.fitted_encoder().numbers | {"price": Standard(mean=1, std=2)}),
            "scales its numbers in another way",
        ),
        (lambda: encoder(vocabularies=TEXT_ITEMS), "'item' has strings in the table, integers in the bundle"),
    ],
)
def test_tables_that_do_not_fit(changed: Callable[[], Encoder], message: str) -> None:
    with pytest.raises(FunnelcastError, match=message):
        grown_encoder(changed(), bundle_of())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tower": [7, 3]}, "another model"),
        ({"attention": "none"}, "another model"),
        ({"head": "independent"}, "has the head 'chain', not 'independent'"),
        ({"embedding_dim": 3}, "another model|another embedding size"),
        ({"embedding_dims": {"user": 3}, "embedding_dim": 2}, "another model|another embedding size"),
    ],
)
def test_models_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    init = bundle_of()
    grown = grown_encoder(encoder(), init)
    model = build_model(tiny.experiment(model=tiny.MODEL | change), grown)
    with pytest.raises(FunnelcastError, match=message):
        warm_start(model, grown, init)


def test_widths_that_add_up_alike_do_not_fit_either() -> None:
    """user 2 + item 3 twice + age 2, against user 4 + item 2 twice + age 2: as many numbers per row."""
    init = bundle_of()
    grown = grown_encoder(encoder(), init)
    model = build_model(tiny.experiment(model=tiny.MODEL | {"embedding_dims": {"user": 4}}), grown)
    assert isinstance(init.model, FunnelModel)
    assert model.embedding.width == init.model.embedding.width
    with pytest.raises(FunnelcastError, match="has another embedding size in the bundle"):
        warm_start(model, grown, init)
    assert np.isfinite(init.rates).all()


def test_lists_that_are_pooled_in_another_way_do_not_fit() -> None:
    """Their parameters have the same shapes."""
    features = {**tiny.SCHEMA.model_dump()["features"], "tags": {"kind": "multi", "vocabulary": "item"}}
    listed = encoder(schema=Schema.from_dict({**tiny.SCHEMA.model_dump(), "features": features}))
    init = bundle_of(listed, model=tiny.MODEL | {"pooling": {"tags": "sum"}})
    for pool in ("mean", "sum"):
        model = build_model(tiny.experiment(model=tiny.MODEL | {"pooling": {"tags": pool}}), listed)
        if pool == "sum":
            warm_start(model, listed, init)
            assert model.fingerprint == init.fingerprint
        else:
            with pytest.raises(FunnelcastError, match=r"pools its lists by {'tags': 'sum'}, not {'tags': 'mean'}"):
                warm_start(model, listed, init)


def test_ids_with_a_row_of_their_own_keep_it() -> None:
    """Also those of too few rows in the new log; its frequent ids get one, and others read the unknown id's."""
    settings = tiny.MODEL | {"embedding_min_rows": 3}
    known = tiny.fitted_encoder()
    model = build_model(tiny.experiment(model=settings), known)
    users = len(known.vocabularies["user"])
    counts = {name: torch.arange(size) for name, size in known.inputs.sizes.items()}
    assert isinstance(model.embedding, Embedding)
    model.embedding.keep(counts)
    init = replace(bundle_of(model=settings), model=model)
    grown = grown_encoder(encoder(), init)
    warm = build_model(tiny.experiment(model=settings, seed=3), grown)
    warm_start(warm, grown, init)
    (kept,) = [table.kept_blocks()["user"] for table in warm.embedding.all_tables() if "user" in table.sizes]
    values = grown.vocabularies["user"].values.to_pylist()
    before = dict(zip(known.vocabularies["user"].values.to_pylist(), range(1, users), strict=True))
    assert kept.tolist() == [True, *(before.get(value, 0) >= 3 for value in values)]
    assert not all(kept) and any(kept[1:])
