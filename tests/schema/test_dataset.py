"""The schema of a log: short forms, what follows, the fingerprint, and its faults."""

from __future__ import annotations

from typing import Any

import pytest

from funnelcast.errors import ConfigError
from funnelcast.schema.dataset import Schema
from funnelcast.schema.features import Categorical, Numeric


def schema(features: dict[str, Any] | None = None, **settings: Any) -> Schema:
    return Schema.from_dict(
        {"funnel": "click; buy after click", "features": features or {"user": "categorical"}, **settings}
    )


def test_short_forms() -> None:
    found = schema({"a": "categorical", "b": {}, "c": "numeric", "d": {"column": "x", "vocabulary": "v"}})
    assert found.features["a"] == found.features["b"] == Categorical()
    assert found.features["c"] == Numeric()
    assert (found.column("a"), found.column("d")) == ("a", "x")
    assert (found.vocabulary("a"), found.vocabulary("c"), found.vocabulary("d")) == ("a", "c", "v")


def test_the_dumped_form_is_read_back() -> None:
    found = schema({"a": "numeric", "b": {"kind": "multi", "weights": "w"}, "c": {"kind": "sequence"}}, keep=["t"])
    assert Schema.from_dict(found.model_dump(mode="json")) == found


def test_the_fingerprint_changes_with_whatever_decides_a_figure() -> None:
    variants = [
        schema(),
        schema({"user": {"min_count": 2}}),
        schema({"user2": "categorical"}),
        schema(split={"seed": 1}),
        schema(weight="w"),
        schema(name="other"),
        schema(funnel="click; buy"),
    ]
    assert len({variant.fingerprint() for variant in variants}) == len(variants)
    assert schema().fingerprint() == schema().fingerprint(()) != schema().fingerprint(["a checksum of rows"])
    assert len(schema().fingerprint()) == 12


@pytest.mark.parametrize(
    ("features", "settings", "expected"),
    [
        ({"click": {}}, {}, "features.click: reads the label column 'click'; a label cannot be an input"),
        ({"a": {"column": "buy"}}, {}, "features.a: reads the label column 'buy'"),
        ({"a": {"kind": "multi", "weights": "buy"}}, {}, "features.a: reads the label column 'buy'"),
        ({"a": {"column": "w"}}, {"weight": "w"}, "features.a: reads the weight column 'w'; a weight cannot be"),
        ({"a/b": {}}, {}, "features.a/b: cannot be the name of a file"),
        ({"a\\b": {}}, {}, "cannot be the name of a file"),
        ({".a": {}}, {}, "cannot be the name of a file"),
        ({"": {}}, {}, "cannot be the name of a file"),
        ({"a": {"vocabulary": "v", "min_count": 2}, "b": {"vocabulary": "v"}}, {},
         "features.b.min_count: is 1, but 2 for 'a' of the same vocabulary; give both the same"),
        ({"a": {"vocabulary": "age"}, "age": {"kind": "numeric", "transform": "bins"}}, {},
         "features.age: has the name of the vocabulary of 'a'"),
        (None, {"split": {"by": "time"}}, "split: by = 'time' needs `column`"),
        (None, {"split": {"by": "random", "column": "t"}}, "split: by = 'random' takes no column"),
        (None, {"split": {"dev": 0.5, "test": 0.5}}, "leave no rows to train on"),
        (None, {"keep": ["day", "p_click"]}, "keep.1: 'p_click' is what predictions are called"),
        (None, {"weight": ""}, "weight: '' is not allowed: string should have at least 1 character"),
        (None, {"split": {"by": "time", "column": ""}}, "split.column: '' is not allowed"),
        ({"a": {"column": ""}}, {}, "features.a.column: '' is not allowed"),
        ({"a": {"vocabulary": ""}}, {}, "features.a.vocabulary: '' is not allowed"),
        ({"a": {"kind": "multi", "weights": ""}}, {}, "features.a.weights: '' is not allowed"),
        ({"a": {"min_count": 2**63}}, {}, "features.a.min_count: 9223372036854775808 is not allowed"),
        ({"a": {"kind": "sequence", "max_length": 2**63}}, {}, "features.a.max_length: 9223372036854775808 is not"),
        ({"a": {"kind": "numeric", "bins": 4}}, {}, "features.a: bins = 4 needs transform = 'bins'"),
    ],
)  # fmt: skip
def test_faults(features: dict[str, Any] | None, settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as raised:
        schema(features, **settings)
    assert expected in str(raised.value)


def test_all_faults_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        schema({"click": {}, "a/b": {}, "c": {"vocabulary": "v", "min_count": 2}, "d": {"vocabulary": "v"}})
    assert len(raised.value.faults) == 3
