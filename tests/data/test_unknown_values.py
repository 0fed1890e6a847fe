"""Hashes of ids that a vocabulary does not know."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from funnelcast.data.encoder import Encoder
from funnelcast.data.unknown_values import unknown_values
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.schema.dataset import Schema

LISTS: dict[str, Any] = {"tags": "multi", "seen": {"kind": "sequence", "max_length": 3}}


def hashes(features: dict[str, Any], known: dict[str, list[Any]], **columns: Any) -> list[int]:
    schema = Schema.from_dict({"funnel": "click", "features": features})
    encoder = Encoder(schema, {name: Vocabulary(pa.array(values)) for name, values in known.items()}, {})
    rows = pa.record_batch({name: pa.array(values) for name, values in columns.items()})
    return [int(value) for value in unknown_values(encoder, rows, encoder.encode(rows))]


def test_unknown_ids_alone_have_a_hash() -> None:
    two = dict.fromkeys("ab", "categorical")
    found = hashes(two, {"a": [1, 2], "b": ["x"]}, a=[1, 7, 8, 7, None, 7, 9], b=["x", "x", "x", "x", None, "y", "y"])
    assert found[0] == found[4] == 0 and found[1] == found[3] != 0
    assert len(set(found)) == 5


def test_the_feature_counts() -> None:
    one, other = hashes(dict.fromkeys("ab", "categorical"), {"a": [1], "b": [1]}, a=[1, 5], b=[5, 1])
    assert one != other


@pytest.mark.parametrize("kind", [pa.int64(), pa.int16(), pa.float64(), pa.float32(), pa.decimal128(19)])
def test_numbers_of_any_type_are_alike(kind: pa.DataType) -> None:
    values = pa.array([1, 7, -3, None, 300], pa.int64())
    assert hashes({"a": {}}, {"a": [1]}, a=values.cast(kind)) == hashes({"a": {}}, {"a": [1]}, a=values)


def test_missing_floats_are_missing() -> None:
    assert hashes({"a": {}}, {"a": [1]}, a=[1.0, float("nan"), 2.0])[1] == 0


def test_texts_in_any_memory_are_alike() -> None:
    texts = ["", "a", "ab", "ä", None, "abc" * 9]
    padded = pa.array(["zz", *texts, "q"]).slice(1, len(texts))
    found = hashes({"a": {}}, {"a": ["known"]}, a=texts)
    assert found == hashes({"a": {}}, {"a": ["known"]}, a=padded.cast(pa.large_string())) and len(set(found)) == 6


def test_lists_have_an_order_where_they_are_sequences() -> None:
    seen = [[8, 9, 1], [9, 8, 1], [1, 1], None, [5, 8, 9, 1], [8, 1, 9]]
    known = {"tags": [1], "seen": [1]}
    tags = hashes({"tags": "multi"}, known, tags=seen)
    assert tags[0] == tags[1] == tags[5] != tags[4] and tags[2] == tags[3] == 0
    assert hashes(LISTS, known, tags=[[]] * 6, seen=seen)[0] == hashes(LISTS, known, tags=[[]] * 6, seen=seen)[4], (
        "what was cut off is no part of the row"
    )
    assert len(set(hashes(LISTS, known, tags=[[]] * 6, seen=seen))) == 4


def test_one_row_counts_what_stands_in_all_its_features() -> None:
    one = hashes(LISTS, {"tags": [1], "seen": [1]}, tags=[[1, 7], [7, 7], [7]], seen=[[1], [1], [1]])
    assert len(set(one)) == 2 and one[0] == one[2], "7 once, and twice"


def test_a_vocabulary_without_values() -> None:
    empty = pa.array([], pa.string())
    schema = Schema.from_dict({"funnel": "click", "features": {"a": {}}})
    encoder = Encoder(schema, {"a": Vocabulary(empty)}, {})
    for column in (pa.nulls(2), pa.array([True, None]), pa.array([3, None])):
        rows = pa.record_batch({"a": column})
        found = unknown_values(encoder, rows, encoder.encode(rows))
        assert (found[0] != 0) == (column.null_count == 1) and found[1] == 0
