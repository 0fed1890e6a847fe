"""The encoder: raw rows of every type to ids and numbers, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from funnelcast.data.encoder import Encoder
from funnelcast.data.numeric import Bins, Standard
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.errors import InputError
from funnelcast.schema.dataset import Schema

SCHEMA = Schema.from_dict(
    {
        "funnel": "click",
        "features": {
            "item": {"vocabulary": "items"},
            "age": {"kind": "numeric"},
            "age_bin": {"kind": "numeric", "column": "age", "transform": "bins"},
            "city": "categorical",
            "tags": {"kind": "multi", "weights": "tag_weights"},
            "history": {"kind": "sequence", "vocabulary": "items", "max_length": 2},
        },
    }
)
ENCODER = Encoder(
    SCHEMA,
    {
        "items": Vocabulary(pa.array([10, 20])),
        "city": Vocabulary(pa.array(["x"])),
        "tags": Vocabulary(pa.array(["a", "b"])),
    },
    {"age": Standard(mean=30, std=10), "age_bin": Bins(edges=(20, 40))},
)
ROWS: dict[str, Any] = {
    "item": [10, 30, None],
    "age": [40.0, None, float("inf")],
    "city": ["x", "y", None],
    "tags": [["a", "c", None], None, ["b"]],
    "tag_weights": [[1.5, None, float("inf")], [], [2]],
    "history": [[10, 20, 30], [20], None],
}


def batch(**changes: Any) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({name: changes.get(name, values) for name, values in ROWS.items()})


def test_what_a_model_must_know() -> None:
    assert ENCODER.inputs.fields == (("item", "items"), ("age_bin", "age_bin"), ("city", "city"))
    assert ENCODER.inputs.sizes == {"items": 3, "city": 2, "tags": 3, "age_bin": 4}
    assert ENCODER.inputs.numeric == ("age",)


def test_known_rows() -> None:
    found = ENCODER.encode(batch())
    assert found.ids.tolist() == [[1, 3, 1], [0, 0, 0], [0, 0, 0]]
    assert found.ids.dtype == np.int32 and found.ids.flags.c_contiguous
    assert found.numeric.tolist() == [[1], [0], [0]]
    tags, history = found.ragged["tags"], found.ragged["history"]
    assert tags.weights is not None
    assert (tags.offsets.tolist(), tags.ids.tolist()) == ([0, 3, 3, 4], [1, 0, 0, 2])
    assert tags.weights.tolist() == [1.5, 0, 0, 2]
    assert (history.offsets.tolist(), history.ids.tolist()) == ([0, 2, 3, 3], [2, 0, 2])
    assert found.labels is None and found.weight is None


def test_weights_beyond_what_a_table_holds_are_the_largest_that_it_does() -> None:
    weights = ENCODER.encode(batch(tag_weights=[[1e300, -1e300, 1], [], [2]])).ragged["tags"].weights
    largest = float(np.finfo(np.float32).max)
    assert weights is not None and weights.tolist() == [largest, -largest, 1, 2]


@pytest.mark.parametrize(
    "age",
    [
        pa.array([40, None, 30], pa.int8()),
        pa.array([40, None, 30], pa.uint64()),
        pa.array([40, None, 30], pa.float16()),
        pa.array([Decimal(40), None, Decimal(30)], pa.decimal128(5, 1)),
    ],
)
def test_numbers_from_every_type(age: pa.Array) -> None:
    assert ENCODER.encode(batch(age=age)).numeric[:, 0].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.int32()), pa.large_list(pa.int64()), pa.list_(pa.float64()), pa.list_(pa.int64(), 1)]
)
def test_lists_from_every_type(kind: pa.DataType) -> None:
    found = ENCODER.encode(batch(history=pa.array([[20], None, [30]], kind))).ragged["history"]
    assert (found.offsets.tolist(), found.ids.tolist()) == ([0, 1, 1, 2], [2, 0])


def parted(**changes: Any) -> Encoder:
    """The encoder of a schema that says what parts its lists."""
    features = {name: feature.model_dump() for name, feature in SCHEMA.features.items()}
    for name in ("tags", "history"):
        features[name]["separator"] = "|"
    return replace(ENCODER, schema=Schema.from_dict({"funnel": "click", "features": features}), **changes)


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())], ids=str
)
def test_texts_are_the_lists_they_stand_for(kind: pa.DataType) -> None:
    """Of integers and of strings; lists need no separator, and missing columns are of any type."""
    texts = {"tags": ["a|c|", None, "b"], "tag_weights": ["1.5||inf", "", "2"], "history": ["10|20.0|30", "20", None]}
    changes = {name: pa.array(values).cast(kind) for name, values in texts.items()}
    expected = ENCODER.encode(batch())
    for rows in (
        batch(**changes),
        batch(),
        batch(history=changes["history"]),
        batch(tag_weights=changes["tag_weights"]),
    ):
        found = parted().encode(rows)
        for name in ("tags", "history"):
            assert found.ragged[name].offsets.tolist() == expected.ragged[name].offsets.tolist()
            assert found.ragged[name].ids.tolist() == expected.ragged[name].ids.tolist()
        weights, of_lists = found.ragged["tags"].weights, expected.ragged["tags"].weights
        assert weights is not None and of_lists is not None and weights.tolist() == of_lists.tolist()
    for missing in (pa.nulls(3), pa.nulls(3, kind), pa.nulls(3, pa.float64())):
        found = parted().encode(batch(**dict.fromkeys(texts, missing)))
        assert found.ragged["tags"].offsets.tolist() == found.ragged["history"].offsets.tolist() == [0, 0, 0, 0]
    assert parted().encode(batch(**changes).slice(2)).ragged["tags"].ids.tolist() == [2]


def test_texts_that_are_no_integers_are_unknown() -> None:
    texts = batch(history=["x|20", "020|20", "10 |99999999999999999999"])
    assert parted().encode(texts).ragged["history"].ids.tolist() == [0, 2, 0, 2, 0, 0]
    empty = parted(vocabularies=ENCODER.vocabularies | {"items": Vocabulary(pa.array([], pa.int64()))})
    assert not empty.encode(texts).ragged["history"].ids.any()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"history": [1, 2, 3]}, "column 'history' holds int64, but a list per row is needed"),
        ({"tag_weights": ["1|2|x", None, "1"]}, "column 'tag_weights' cannot be read as numbers: .*'x'.*; mend it"),
        ({"tag_weights": ["1|2|3", None, "1|2"]}, "row 2: 'tags' and its weights 'tag_weights' differ in length"),
        ({"history": [["10"], None, None]}, "column 'history' holds string, but its vocabulary was made of integers"),
    ],
)
def test_columns_that_are_no_texts_of_lists(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        parted().encode(batch(**changes))


def test_slices_rows_of_nulls_and_no_rows_at_all() -> None:
    whole, part = ENCODER.encode(batch()), ENCODER.encode(batch().slice(1, 2))
    assert part.ids.tolist() == whole.ids[1:].tolist()
    assert part.ragged["history"].ids.tolist() == [2]
    empty = ENCODER.encode(batch().slice(3))
    assert (empty.ids.shape, empty.numeric.shape, len(empty.ragged["tags"])) == ((0, 3), (0, 1), 0)
    nothing = ENCODER.encode(pa.RecordBatch.from_pydict({name: pa.nulls(2) for name in ROWS}))
    assert not nothing.ids.any() and nothing.ragged["history"].offsets.tolist() == [0, 0, 0]


def test_numbers_far_from_the_training_rows_stay_finite() -> None:
    assert np.isfinite(ENCODER.encode(batch(age=[1e308, -1e308, 0])).numeric).all()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"age": ["a", "b", "c"]}, "column 'age' holds string, but numbers are needed"),
        ({"item": ["a", "b", "c"]}, "column 'item' holds string, but its vocabulary was made of integers"),
        ({"history": [1, 2, 3]}, "column 'history' holds int64, but a list per row is needed"),
        ({"history": ["1|2", "", None]}, "column 'history' holds text, but a list per row is needed; give lists, or "
                                         r"set what parts the texts, as separator = \"\|\", in the schema and train"),
        ({"tag_weights": ["1|2", "", None]}, "column 'tag_weights' holds text, but a list per row is needed"),
        ({"tag_weights": [[1, 2, 3], None, [1, 2]]}, "row 2: 'tags' and its weights 'tag_weights' differ in length"),
    ],
)  # fmt: skip
def test_columns_of_another_type(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        ENCODER.encode(batch(**changes))


def test_missing_columns_are_named_with_the_nearest_there_is() -> None:
    rows = batch().drop_columns(["city", "age"]).append_column("citty", pa.nulls(3))
    with pytest.raises(InputError) as raised:
        ENCODER.encode(rows)
    expected = "the rows lack 2 of the model's 6 columns: age, city; for 'city', did you mean 'citty'?"
    assert str(raised.value) == expected
    with pytest.raises(InputError, match="columns: age; add them, null where unknown"):
        ENCODER.encode(batch().drop_columns(["age"]))


def test_saved_and_loaded(tmp_path: Path) -> None:
    ENCODER.save(tmp_path)
    loaded = Encoder.load(tmp_path)
    assert (loaded.schema, loaded.numbers, loaded.inputs) == (SCHEMA, ENCODER.numbers, ENCODER.inputs)
    assert loaded.encode(batch()).ids.tolist() == ENCODER.encode(batch()).ids.tolist()


@pytest.mark.parametrize(("value", "expected"), [(19.9, 1), (20, 2), (39.9, 2), (40, 3), (np.nan, 0), (-1e9, 1)])
def test_an_edge_belongs_to_the_bin_above_it(value: float, expected: int) -> None:
    assert Bins(edges=(20, 40))(np.array([value])).tolist() == [expected]
