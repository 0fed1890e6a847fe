"""Values that vocabularies and encoders do not know, which adapting gives rows of their own."""

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from funnelcast.data.encoder import Encoder
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.errors import InputError
from funnelcast.schema.dataset import Schema
from tests.data.test_encoder import ENCODER, batch, parted

INTEGERS = Vocabulary(pa.array([7, 3, -2], pa.int32()))
STRINGS = Vocabulary(pa.array(["b", "", "ä"]))


@pytest.mark.parametrize(
    "column",
    [
        pa.array([9, 3, None, 8, 9, 7]),
        pa.array([9, 3, None, 8, 9, 7], pa.uint8()),
        pa.array([9.0, 3.0, float("nan"), 8.0, None]),
        pa.array([9, 3, None, 8]).dictionary_encode(),
    ],
)
def test_integers_that_are_not_known(column: pa.Array) -> None:
    assert INTEGERS.unknown(column, "x").equals(pa.array([8, 9], pa.int64()))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())], ids=str)
def test_strings_that_are_not_known(kind: pa.DataType) -> None:
    assert STRINGS.unknown(pa.array(["d", "ä", None, "c", "", "d"]).cast(kind), "x").equals(pa.array(["c", "d"]))


def test_nothing_is_unknown() -> None:
    for column in (pa.nulls(3), pa.array([], pa.int64()), pa.array([7, None])):
        assert INTEGERS.unknown(column, "x").equals(pa.array([], pa.int64()))
    assert STRINGS.unknown_of_texts(pa.array(["b", None]), "x").equals(pa.array([], pa.string()))


def test_texts_hold_the_integers_that_ids_of_texts_reads() -> None:
    """Those without an id are exactly these and what is no integer of 64 bits."""
    large = 2**63 - 1
    unknown = ["8", "5.0", "-3", "-3.0", "0", str(large), str(-large - 1)]
    others = ["007", "+8", "8.5", "-0", "1e3", " 8", "", "x", str(large + 1), str(-large - 2), "9" * 30]
    texts = pa.array([*unknown, *others, None, "7", "-2.0", "3"])
    found = INTEGERS.unknown_of_texts(texts, "x")
    assert found.equals(pa.array([-large - 1, -3, 0, 5, 8, large]))
    known = Vocabulary(found).ids_of_texts(texts, "x")
    assert (known[: len(unknown)] > 0).all() and not known[len(unknown) :].any()
    assert STRINGS.unknown_of_texts(pa.array(["7", "007", "b", None]), "x").to_pylist() == ["007", "7"]


def test_another_type_is_an_error_as_of_ids() -> None:
    for vocabulary, column in ((INTEGERS, pa.array(["7"])), (STRINGS, pa.array([7]))):
        with pytest.raises(InputError, match=r"column 'user' holds .* its vocabulary was made of"):
            vocabulary.unknown(column, "user")


def found(encoder: Encoder = ENCODER, **changes: Any) -> dict[str, list[Any]]:
    return {name: values.to_pylist() for name, values in encoder.unknown(batch(**changes)).items()}


def test_by_vocabulary_of_all_its_features() -> None:
    """Bins have no vocabulary of values."""
    assert found() == {"items": [30], "city": ["y"], "tags": ["c"]}
    changes: dict[str, Any] = {"item": [40, 30, 10], "history": [[50, 20, 30, 5], None, [None, 40]]}
    assert found(**changes) == {"items": [5, 30, 40, 50], "city": ["y"], "tags": ["c"]}
    assert found(item=[None] * 3, history=[[], [], []], city=["x"] * 3, tags=[[]] * 3) == {
        "items": [], "city": [], "tags": [],
    }  # fmt: skip


def test_of_texts_that_a_separator_parts() -> None:
    texts: dict[str, Any] = {
        "tags": ["a|c|", None, "b"],
        "tag_weights": ["1.5||inf", "", "2"],
        "history": ["10|20.0|31|x", "20", None],
    }
    assert found(parted(), **texts) == {"items": [30, 31], "city": ["y"], "tags": ["c"]}
    assert found(parted()) == found()


def test_a_vocabulary_that_knows_nothing_has_none() -> None:
    """Its type is unknown too."""
    vocabularies = {**ENCODER.vocabularies, "city": Vocabulary(pa.array([], pa.string()))}
    assert found(replace(ENCODER, vocabularies=vocabularies)) == {"items": [30], "tags": ["c"]}


def test_a_feature_may_have_the_name_of_a_column_or_of_a_vocabulary() -> None:
    features = {"a": {"column": "b", "vocabulary": "c"}, "b": {"column": "c"}, "c": {"column": "a"}}
    schema = Schema.from_dict({"funnel": "click", "features": features})
    encoder = Encoder(schema, {"c": Vocabulary(pa.array([1])), "b": Vocabulary(pa.array(["x"]))}, {})
    rows = pa.record_batch({"a": [1, 2], "b": [3, 1], "c": ["x", "y"]})
    assert {n: v.to_pylist() for n, v in encoder.unknown(rows).items()} == {"c": [2, 3], "b": ["y"]}


def test_rows_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="lack 1 of the model's 6 columns: item"):
        ENCODER.unknown(batch().drop_columns(["item"]))
    with pytest.raises(InputError, match="column 'city' holds int64"):
        ENCODER.unknown(batch(city=[1, 2, 3]))
