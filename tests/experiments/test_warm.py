"""A warm start: what the bundle knows is kept by the value it stands for, what is new is fresh."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from funnelcast.data.encoder import Encoder
from funnelcast.data.numeric import Standard
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.errors import FunnelcastError
from funnelcast.experiments.evaluate import evaluate
from funnelcast.experiments.run import build_model, train
from funnelcast.experiments.warm import grown_encoder, warm_start
from funnelcast.models.base import FunnelModel
from funnelcast.schema.dataset import Schema
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.predictor import Predictor
from tests import tiny
from tests.serving.test_bundle import bundle_of

USERS = ["new1", "u5", "u0", "u11", "new2"]
ITEMS = [50, 7, 3, 51]


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


def rows_of(model: FunnelModel, known: Encoder) -> dict[str, dict[Any, Tensor]]:
    """Embedding rows by vocabulary and value; None stands for row 0."""
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
    run = train(tiny.experiment(), table, tmp_path / "run", init=init)
    assert run.results == {part: evaluate(run.bundle, table, part)["outputs"] for part in ("dev", "test")}
    rows, old = rows_of(run.bundle.model, run.bundle.encoder), rows_of(init.model, init.encoder)
    gone = set(old["user"]) - set(USERS) - {None}
    assert gone and all(torch.equal(rows["user"][value], old["user"][value]) for value in gone)
    assert all(not torch.equal(rows["user"][value], old["user"][value]) for value in ("u5", "u0", "u11", None))
    again = Bundle.load(run.folder / "bundle")
    assert Predictor(again).predict(tiny.draw_log(50)).equals(Predictor(run.bundle).predict(tiny.draw_log(50)))


def test_a_start_differs_from_a_fresh_one_by_the_bundle_alone(tmp_path: Path) -> None:
    table = tiny.write_table(tmp_path / "table")
    fresh = train(tiny.experiment(), table, tmp_path / "fresh")
    still = tiny.experiment(optimizer={"learning_rate": 1e-30})
    warm = train(still, table, tmp_path / "warm", init=fresh.bundle)
    assert warm.results == fresh.results
    assert warm.bundle.fingerprint == fresh.bundle.fingerprint


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
    assert model.embedding.width == init.model.embedding.width
    with pytest.raises(FunnelcastError, match="has another embedding size in the bundle"):
        warm_start(model, grown, init)
    assert np.isfinite(init.rates).all()
