"""Candidates of one user: what they share, given once, counts as if it stood in every row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from funnelcast.data.encoder import Encoder
from funnelcast.data.numeric import Standard
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.errors import InputError
from funnelcast.schema.dataset import Schema
from funnelcast.serving.predictor import Predictor
from tests.serving.test_bundle import bundle_of
from tests.serving.test_deltas import several
from tests.tiny import draw_log

FEATURES = {
    "user": {},
    "item": {},
    "price": {"kind": "numeric"},
    "age": {"kind": "numeric"},
    "seen": {"kind": "sequence"},
    "tags": {"kind": "multi", "weights": "tag_weights"},
}
USER: dict[str, Any] = {"user": "b", "age": 40.0, "seen": [7, 9], "tags": [3, 4, 99], "tag_weights": [0.5, 2.0, 1.0]}
CANDIDATES: dict[str, list[Any]] = {"item": [1, 2, None, 77], "price": [1.0, None, 3.0, 4.0]}


def _predictor() -> Predictor:
    schema = Schema.from_dict({"funnel": "click; conversion after click", "features": FEATURES})
    values = {"user": ["a", "b"], "item": [1, 2, 3], "seen": [7, 8, 9], "tags": [3, 4]}
    vocabularies = {name: Vocabulary(pa.array(own)) for name, own in values.items()}
    numbers: dict[str, Any] = {"price": Standard(mean=2.0, std=1.0), "age": Standard(mean=30.0, std=9.0)}
    model = {"name": "shared_bottom", "tower": [4], "tower_dropout": []}
    return Predictor(bundle_of(encoder=Encoder(schema, vocabularies, numbers), model=model))


def _repeated(user: dict[str, Any], candidates: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return candidates | {name: [value] * len(candidates["item"]) for name, value in user.items()}


def test_it_is_as_if_every_row_had_it() -> None:
    predictor = _predictor()
    expected = predictor.predict(_repeated(USER, CANDIDATES))
    found = predictor.predict(CANDIDATES, shared=USER)
    assert len(np.unique(expected["p_click"])) == 4
    for name in predictor.columns:
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize("shared", [{}, {"user": "b"}, {"user": None, "age": None}, {"user": "b", "seen": []}])
def test_any_columns_may_be_shared(shared: dict[str, Any]) -> None:
    predictor, rows = _predictor(), _repeated(USER, CANDIDATES)
    expected = predictor.predict(rows | {name: [value] * 4 for name, value in shared.items()})
    own = {name: values for name, values in rows.items() if name not in shared}
    np.testing.assert_array_equal(predictor.predict(own, shared=shared)["p_conversion"], expected["p_conversion"])


def test_a_user_without_candidates_has_no_predictions() -> None:
    found = _predictor().predict(
        pa.table({"item": pa.array([], pa.int64()), "price": pa.array([], pa.float64())}), USER
    )
    assert found.num_rows == 0


def test_what_is_wrong_is_told() -> None:
    predictor = _predictor()
    with pytest.raises(InputError, match="shared is a list; give a dict of one value for each column"):
        predictor.predict(CANDIDATES, shared=[USER])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="user is shared and stands in the rows too; give it once"):
        predictor.predict(_repeated({"user": "b"}, CANDIDATES), shared=USER)
    with pytest.raises(InputError, match="the rows lack 1 of the model's 7 columns: age"):
        predictor.predict(CANDIDATES, shared={name: value for name, value in USER.items() if name != "age"})
    with pytest.raises(InputError, match="'tags' and its weights 'tag_weights' must stand together"):
        rows = CANDIDATES | {"tag_weights": [[1.0, 1.0, 1.0]] * 4}
        predictor.predict(rows, shared={name: value for name, value in USER.items() if name != "tag_weights"})


def test_deltas_are_chosen_by_what_is_shared_too() -> None:
    predictor, rows = several(), draw_log(9).drop_columns("campaign")
    for campaign in ("a", "b", "other"):
        expected = predictor.predict(rows.append_column("campaign", pa.array([campaign] * 9)))
        assert predictor.predict(rows, shared={"campaign": campaign}).equals(expected)
