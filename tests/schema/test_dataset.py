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
    parted = schema({"b": {"kind": "multi", "separator": ";"}, "c": {"kind": "sequence", "separator": "||"}})
    assert Schema.from_dict(parted.model_dump(mode="json")) == parted


def test_the_fingerprint_changes_with_whatever_decides_a_figure() -> None:
    variants = [
        schema(),
        schema({"user": {"min_count": 2}}),
        schema({"user2": "categorical"}),
        schema(split={"seed": 1}),
        schema(weight="w"),
        schema(name="other"),
        schema(funnel="click; buy"),
        schema({"user": {"kind": "multi"}}),
        schema({"user": {"kind": "multi", "separator": "|"}}),
        schema({"user": {"kind": "multi", "separator": ";"}}),
    ]
    assert len({variant.fingerprint() for variant in variants}) == len(variants)
    assert schema().fingerprint() == schema().fingerprint(()) != schema().fingerprint(["a checksum of rows"])
    assert len(schema().fingerprint()) == 12


def test_a_setting_that_came_later_left_the_fingerprints_of_schemas_without_it() -> None:
    """Tables with lists that were made before texts could be split."""
    found = schema({"tags": {"kind": "multi", "weights": "w"}, "seen": {"kind": "sequence", "max_length": 9}})
    assert found.fingerprint() == "eb21d8ae1c33"


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
        ({"a": {"kind": "multi", "separator": ""}}, {}, "features.a.separator: '' is not allowed"),
        ({"a": {"separator": "|"}}, {}, "features.a.separator: is not a setting"),
        ({"a": {"kind": "numeric", "separator": "|"}}, {}, "features.a.separator: is not a setting"),
        ({"a": {"kind": "multi", "separator": "|"}, "b": {"kind": "sequence", "column": "a", "separator": ";"}}, {},
         "features.b.separator: is ';', but '|' for 'a', of the column 'a' too; give both the same"),
        ({"a": {"kind": "multi", "column": "b", "weights": "w", "separator": "|"}, "w": {"kind": "sequence"}}, {},
         "features.w.separator: is None, but '|' for 'a', of the column 'w' too"),
        ({"a": {"kind": "numeric", "bins": 4}}, {}, "features.a: bins = 4 has no effect with transform = 'standard'"),
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
