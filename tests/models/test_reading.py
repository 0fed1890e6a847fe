"""How networks read: settings of embeddings and pools, and the faults of those that do not fit the input."""

from typing import Any

import pytest

from funnelcast.data.encoder import InputSpec
from funnelcast.errors import ConfigError
from funnelcast.registry import recipe_of
from tests.models.reference import FUNNELS, LISTED, PLAIN, small
from tests.models.test_network import every_network

CHAIN = FUNNELS["chain"]
TARGET: dict[str, Any] = {"kind": "target_attention", "field": "item"}
TRANSFORMER: dict[str, Any] = {"kind": "transformer"}


def faults(settings: dict[str, Any], inputs: InputSpec = LISTED) -> list[str]:
    return [str(fault) for fault in recipe_of(settings).check(inputs, CHAIN)]


@every_network
def test_a_name_of_a_vocabulary_that_there_is_not(name: str) -> None:
    assert faults(small(name, embedding_dims={"itm": 3, "user": 4, "price": 2}), PLAIN) == [
        "model.embedding_dims.itm: is no vocabulary; did you mean 'item'?",
        "model.embedding_dims.price: is no vocabulary; known: item, user",
    ]
    assert faults(small(name, pretrained={"users": {"file": "v.parquet"}}), PLAIN) == [
        "model.pretrained.users: is no vocabulary; did you mean 'user'?"
    ]
    assert not faults(small(name), PLAIN)


@every_network
@pytest.mark.parametrize(
    ("pooling", "fault"),
    [
        ({"tag": "sum"}, "tag: is no list; did you mean 'tags'?"),
        ({"price": "sum"}, "price: is no list; known: tags, topics, viewed, bought"),
        (
            {"tags": "weighted_mean"},
            "tags: 'weighted_mean' of ids without weights; write 'mean', or give the feature weights",
        ),
        (
            {"viewed": "weighted_mean"},
            "viewed: 'weighted_mean' of ids without weights; write 'mean', or give the feature weights",
        ),
        (
            {"tags": TRANSFORMER},
            "tags: 'transformer' of a multi-valued feature; declare it as a sequence, or write 'mean'",
        ),
        (
            {"topics": TARGET | {"field": "user"}},
            "topics: 'target_attention' of a multi-valued feature; declare it as a sequence, or write 'mean'",
        ),
        ({"viewed": TRANSFORMER | {"heads": 3}}, "viewed.heads: 3 heads do not divide 4 numbers; set heads = 1"),
        ({"viewed": TARGET | {"field": "itm"}}, "viewed.field: 'itm' is no field; did you mean 'item'?"),
        (
            {"bought": TARGET | {"field": "user"}},
            "bought.field: 'user' has 2 numbers, the sequence 4; give both vocabularies the same embedding size",
        ),
    ],
)
def test_pools_that_do_not_fit(name: str, pooling: dict[str, Any], fault: str) -> None:
    assert faults(small(name, pooling=pooling)) == [f"model.pooling.{fault}"]


def test_pools_that_fit() -> None:
    for pool in ("sum", "mean"):
        assert not faults(small("esmm", pooling=dict.fromkeys(("tags", "topics", "viewed", "bought"), pool)))
    assert not faults(small("esmm", pooling={"topics": "weighted_mean", "viewed": TARGET, "bought": TRANSFORMER}))


def test_an_input_without_lists_has_nothing_to_pool() -> None:
    assert faults(small("man", pooling={"tags": "sum"}), PLAIN) == ["model.pooling.tags: is no list; take it out"]


@pytest.mark.parametrize("pool", [TARGET, TRANSFORMER])
def test_what_needs_vectors_is_refused_without_embeddings(pool: dict[str, Any]) -> None:
    assert faults(small("ple", embedding="none", pooling={"viewed": pool})) == [
        f"model.pooling.viewed: '{pool['kind']}' needs vectors; set embedding = 'tables', or write 'mean'"
    ]
    assert faults(small("ple", embedding="none", pretrained={"user": {"file": "v.parquet"}})) == [
        "model.pretrained: needs embeddings; set embedding = 'tables', or take it out"
    ]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"embedding_dim": 0}, "embedding_dim: 0 is not allowed"),
        ({"embedding_dims": {"item": -1}}, "embedding_dims.item: -1 is not allowed"),
        ({"embedding_init": "normall"}, "did you mean 'normal'?"),
        ({"embedding": "hashed"}, "embedding: 'hashed' is not one of tables, none"),
        ({"hashed_width": 64}, "hashed_width has no effect with embedding = 'tables'"),
        ({"embedding": "none", "embedding_dim": 64}, "embedding_dim has no effect with embedding = 'none'"),
    ],
    ids=str,
)
def test_faults(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        recipe_of(small("mmoe", **changes))
    [found] = caught.value.faults
    assert fault in str(found)


@pytest.mark.parametrize(
    ("pool", "fault"),
    [
        (
            "summ",
            "kind: 'summ' is not one of sum, mean, weighted_mean, target_attention, transformer; did you mean 'sum'?",
        ),
        ({"kind": "lstm"}, "kind: 'lstm' is not one of sum, mean, weighted_mean, target_attention, transformer"),
        ({"field": "item"}, "kind: is missing; add it"),
        ({"kind": "sum", "field": "item"}, "field: is not a setting"),
        (TARGET | {"hidden": []}, "hidden: [] is not allowed: more items are needed; give at least 1"),
        (TRANSFORMER | {"layers": 0}, "layers: 0 is not allowed"),
        (TRANSFORMER | {"head": 2}, "head: is not a setting; did you mean 'heads'?"),
        ({"kind": "target_attention"}, "field: is missing; add it"),
    ],
    ids=str,
)
def test_faults_of_pools(pool: Any, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        recipe_of(small("mmoe", pooling={"viewed": pool}))
    [found] = caught.value.faults
    assert str(found).startswith("pooling.viewed.") and fault in str(found)
