"""Keys: which delta a row has, by values of every type, and deltas that exclude each other."""

from dataclasses import replace
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from funnelcast.errors import DeltaError, InputError
from funnelcast.serving.delta import Delta
from funnelcast.serving.keys import Keys, key_texts
from tests import tiny
from tests.serving.adapted import base, delta, empty, p_of, with_columns

KEYS = Keys([{"campaign": value} for value in ("12", "x", "7", "1000000000000000")])


def indices(column: Any) -> list[int]:
    found: list[int] = KEYS.of(pa.record_batch({"campaign": pa.array(column)})).tolist()
    return found


def test_a_value_is_its_text() -> None:
    assert indices(["7", "12", "x", "07", "", None]) == [2, 0, 1, -1, -1, -1]
    assert indices([7, 12, None, 8, 10**15]) == [2, 0, -1, -1, 3]
    assert indices(pa.array([7, 12], pa.uint8())) == [2, 0]
    assert indices(pa.array(["x", None, "7"]).dictionary_encode()) == [1, -1, 2]
    assert indices(pa.array(["x", "7"], pa.large_string())) == [1, 2]
    assert indices(pa.nulls(2)) == [-1, -1]


def test_whole_floats_are_integers() -> None:
    """As data frames turn missing integers into floats; NaN is missing there."""
    assert indices([7.0, 12.0, None, float("nan"), 7.5, 1e15, float("inf")]) == [2, 0, -1, -1, -1, 3, -1]
    for kind in (pa.float16(), pa.float32()):
        assert indices(pa.array([7, None], kind)) == [2, -1]
    texts = key_texts(pa.table({"x": [-0.0, 0.5, float("nan"), 2.0**53 - 1, 2e300]}), "x")
    assert texts.to_pylist() == ["0", "0.5", None, "9007199254740991", "2e+300"]


@pytest.mark.parametrize("kind", ["int64", "float64", "string", "category", "object"])
def test_columns_of_every_type_choose_alike(kind: str) -> None:
    log, predictor = tiny.draw_log(30), base().with_deltas([delta("7"), empty("12")])
    expected = p_of(predictor, with_columns(log, campaign=["7", "12", "3"] * 10))
    frame = log.to_pandas().assign(campaign=pd.Series([7, 12, 3] * 10))
    as_kind = frame.campaign.astype(str) if kind in ("string", "object") else frame.campaign
    assert (p_of(predictor, frame.assign(campaign=as_kind.astype(kind))) == expected).all()
    assert (p_of(predictor, with_columns(log, campaign=pa.nulls(30))) == p_of(base(), log)).all()


def test_a_missing_column() -> None:
    predictor, log = base().with_deltas(delta("7")), tiny.draw_log(5)
    with pytest.raises(InputError, match="lack the column 'campaign' of the key; did you mean 'campain'?"):
        predictor.predict(log.rename_columns({"campaign": "campain"}))
    with pytest.raises(InputError, match="lack the column 'campaign' of the key; "):
        predictor.predict(log.drop_columns(["campaign"]))
    with pytest.raises(InputError, match="column 'campaign' holds list<.*>, and a key is one value per row"):
        predictor.predict(with_columns(log, campaign=[["7"]] * 5))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([delta, delta], "2 deltas are for campaign = '7'; give one of them"),
        ([delta, empty], "2 deltas are for campaign = '7'; give one of them"),
        ([delta, lambda _: replace(empty("1"), key={"user": "u1"})], "are for values of campaign and user; one"),
        ([delta, lambda _: replace(empty("1"), key={})], "one of several deltas has no key, so it is for all rows"),
        ([lambda _: replace(empty("1"), key={})] * 2, "one of several deltas has no key"),
    ],
)  # fmt: skip
def test_deltas_that_exclude_each_other(given: list[Any], message: str) -> None:
    deltas: list[Delta] = [make("7") for make in given]
    with pytest.raises(DeltaError, match=message):
        base().with_deltas(deltas)
