"""Ids that a bundle does not know: what their rows start from, and whose predictions they change."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from funnelcast.data.encoder import Encoder
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.experiments.fit import build_model
from funnelcast.layers.embedding import Embedding
from funnelcast.schema.dataset import Schema
from funnelcast.serving.delta import Delta
from funnelcast.serving.predictor import Predictor
from funnelcast.training.adapting import Adapting
from tests import tiny
from tests.serving.adapted import adaptable, base, network, p_of, support, with_columns

FEW = Adapting(steps=3, folds=2, offsets=False)
LISTS = Schema.from_dict(
    {
        "funnel": "click; conversion after click",
        "features": {
            "user": "categorical",
            "item": "categorical",
            "tags": {"kind": "multi", "weights": "tag_weights"},
            "topics": {"kind": "multi", "separator": "|", "vocabulary": "item"},
            "seen": {"kind": "sequence", "vocabulary": "item", "max_length": 2},
        },
    }
)
ATTEND = {"seen": {"kind": "target_attention", "field": "item", "hidden": [3]}, "tags": "sum", "topics": "mean"}
LIKED, OTHER, STRANGER = 99, 98, 12345


def adapted(campaign: str = "", at: Predictor | None = None, **columns: Any) -> Delta:
    """To rows of three items, of which two are new, and steps are reached for one of them alone."""
    item = np.array([LIKED, OTHER, 3] * 20)
    labels = (item == LIKED).astype(np.int8)
    rows = support(item=item, **{"click": labels, "conversion": labels, **columns})
    key = {"campaign": campaign} if campaign else {}
    return (at or base()).adapt(rows.drop_columns(["campaign"]), FEW, key)


def grown(predictor: Predictor, delta: Delta) -> Predictor:
    """A plain network of larger vocabularies, written by hand."""
    bundle, old = predictor.bundle, network(predictor.bundle)
    known = bundle.encoder.vocabularies
    vocabularies = {n: v.grown(delta.new_ids[n]) if n in delta.new_ids else v for n, v in known.items()}
    encoder = replace(bundle.encoder, vocabularies=vocabularies)
    model = build_model(tiny.experiment(**{"model": bundle.experiment["model"]}), encoder)
    own = {**old.state_dict(), **delta.parameters(old.state_dict())}
    model.load_state_dict({name: t for name, t in own.items() if "embedding" not in name}, strict=False)
    with torch.no_grad():
        for new, table in zip(model.embedding.all_tables(), old.embedding.all_tables(), strict=True):
            for name, block in table.blocks().items():
                rows = delta.of_base(delta.new_rows[name], block) if name in delta.new_rows else block[:0]
                new.blocks()[name].copy_(torch.cat([block, block[0] + rows]))
    return Predictor(replace(bundle, model=model, encoder=encoder))


def test_a_new_id_has_a_row_that_its_steps_moved() -> None:
    delta, ids = adapted(), [LIKED, OTHER, STRANGER]
    assert {LIKED, OTHER} <= set(delta.new_ids["item"].to_pylist()) and STRANGER not in delta.new_ids[
        "item"
    ].to_pylist()
    assert set(delta.new_ids["user"].to_pylist()) <= {"u12", "u13"}
    assert delta.new_rows["item"].shape == (len(delta.new_ids["item"]), 3)
    log = tiny.draw_log(40)
    plain, under = ([p_of(p, with_columns(log, item=i)) for i in ids] for p in (base(), base().with_deltas(delta)))
    assert np.array_equal(plain[0], plain[1]) and np.array_equal(plain[0], plain[2])
    liked, other, stranger = (np.log(p[:, 0]).mean() for p in under)
    assert liked > stranger > other


def test_it_changes_predictions_under_its_own_delta_alone() -> None:
    deltas = [adapted("a"), base().adapt(support().drop_columns(["campaign"]), FEW, {"campaign": "b"})]
    assert not deltas[1].is_empty and LIKED not in deltas[1].new_ids["item"].to_pylist()
    log, both = with_columns(tiny.draw_log(40), campaign=["a", "b", "c", "b"] * 10), base().with_deltas(deltas)
    liked, stranger = (p_of(both, with_columns(log, item=item)) for item in (LIKED, STRANGER))
    assert (liked[0::4] != stranger[0::4]).any(1).mean() > 0.5  # where a unit that reads it is on
    assert np.array_equal(liked[1::2], stranger[1::2]) and np.array_equal(liked[2::4], stranger[2::4])


def test_two_deltas_that_know_an_id_have_a_row_each() -> None:
    """Here of rows in which others are liked, or more is new; each as a plain network with its rows says."""
    opposite = np.array([0, 1, 1] * 20, np.int8)
    deltas = {"b": adapted("b", click=opposite, conversion=opposite), "a": adapted("a", last=[50, 1, 2] * 20)}
    assert all(LIKED in delta.new_ids["item"].to_pylist() for delta in deltas.values())
    log = with_columns(tiny.draw_log(60), item=[LIKED, OTHER, 3, STRANGER] * 15, campaign=["a", "b", "c"] * 20)
    found = p_of(base().with_deltas(deltas.values()), log)
    for i, name in enumerate("ab"):
        np.testing.assert_allclose(found[i::3], p_of(grown(base(), deltas[name]), log)[i::3], rtol=1e-5)
    assert np.array_equal(found[2::3], p_of(base(), log)[2::3])


def lists() -> Encoder:
    values = {"user": pa.array(["u1", "u2"]), "item": pa.array(range(9)), "tags": pa.array(["x", "y"])}
    return Encoder(LISTS, {name: Vocabulary(known) for name, known in values.items()}, {})


def with_lists(log: pa.Table) -> pa.Table:
    rng, rows = np.random.default_rng(1), len(log)
    sizes = rng.integers(0, 4, rows)
    tags = [rng.choice(["x", "y", "new", "newer"], n).tolist() for n in sizes]
    return with_columns(
        log,
        tags=tags,
        tag_weights=[rng.normal(1, 0.5, n).tolist() for n in sizes],
        topics=["|".join(map(str, rng.choice([1, 2, 70, 80], n))) for n in sizes],
        seen=[rng.choice([1, 2, 70, 90], n).tolist() for n in sizes[::-1]],
    )


@pytest.mark.parametrize("pooling", [{}, ATTEND], ids=["mean", "attention"])
def test_lists_with_new_ids(pooling: dict[str, Any]) -> None:
    """In all places of a shared vocabulary, with weights, and of the newest elements alone."""
    model = {**tiny.MODEL, "embedding_dims": {"item": 3}, "pooling": pooling}
    predictor = Predictor(adaptable(lists(), model=model))
    columns = with_lists(support())
    delta = adapted("a", predictor, **{name: columns[name] for name in ("tags", "tag_weights", "topics", "seen")})
    assert delta.new_ids["tags"].to_pylist() == ["new", "newer"]
    assert delta.new_ids["item"].to_pylist() == [70, 80, 90, OTHER, LIKED]
    log = with_columns(with_lists(tiny.draw_log(80, 5)), campaign=["a", "b"] * 40)
    found, expected = p_of(predictor.with_deltas(delta), log), p_of(grown(predictor, delta), log)
    np.testing.assert_allclose(found[0::2], expected[0::2], rtol=1e-5)
    assert np.array_equal(found[1::2], p_of(predictor, log)[1::2]) and (found[0::2] != p_of(predictor, log)[0::2]).all()


def test_none_has_no_rows() -> None:
    config = FEW.model_copy(update={"new_ids": "none"})
    delta = base().adapt(support(item=[LIKED, OTHER, 3] * 20), config)
    assert delta.changes and not delta.new_rows and not delta.new_ids


def test_where_rows_start_from() -> None:
    """By steps too small to see: from the row of unknown ids, so that nothing is left, or from the mean of the known.
    Whether that helps depends on the labels, so that it does for one of two."""
    rows = [support(reached=share, item=LIKED, user="u1", last=1) for share in (0.0, 1.0)]
    at = {"steps": 1, "folds": 2, "learning_rate": 1e-30, "offsets": False}
    for how in ("unknown", "mean"):
        found = [base().adapt(each, Adapting.from_dict({**at, "new_ids": how})) for each in rows]
        assert sum(not delta.is_empty for delta in found) == (how == "mean")
    [moved] = [delta for delta in found if not delta.is_empty]
    [block] = [t.blocks()["item"] for t in network(base().bundle).embedding.all_tables() if "item" in t.sizes]
    row = moved.of_base(moved.new_rows["item"], block)
    assert moved.new_ids["item"].to_pylist() == [LIKED] and not moved.changes
    torch.testing.assert_close(row, (block[1:].mean(0) - block[0])[None].detach(), rtol=2**-10, atol=0)


@pytest.mark.parametrize("change", ["frozen", "hashed"])
def test_what_does_not_learn_has_no_new_rows(change: str) -> None:
    model = tiny.MODEL | ({"embedding": "none", "hashed_width": 16} if change == "hashed" else {})
    if change == "hashed":
        model = {name: value for name, value in model.items() if name not in ("embedding_dim", "embedding_dims")}
    bundle = adaptable(model=model)
    tables = [t for t in network(bundle).embedding.all_tables() if "item" in t.sizes]
    for table in tables:
        table.weight.requires_grad_(False)
    assert isinstance(network(bundle).embedding, Embedding) == (change == "frozen")
    delta = Predictor(bundle).adapt(support(item=[LIKED, OTHER, 3] * 20), FEW)
    assert delta.changes and "item" not in delta.new_ids and ("user" in delta.new_ids) == (change == "frozen")
