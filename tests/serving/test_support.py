"""Rows to adapt to: which of them count, and what is said of those that nothing can be learned from."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from funnelcast.errors import DataError, InputError
from funnelcast.schema.dataset import Schema
from funnelcast.serving.support import Support, TooFewRowsError, read_support
from tests import tiny
from tests.serving.adapted import FEW, base, with_columns

ROWS = pa.table({"click": [1, 0, None, 1], "conversion": [1, None, 1, None], "weight": [1.0, 2.0, 0.0, 3.0]})


def schema(on_broken: str = "drop") -> Schema:
    funnel = tiny.SCHEMA.funnel.model_copy(update={"on_broken": on_broken})
    return tiny.SCHEMA.model_copy(update={"funnel": funnel})


def read(on_broken: str = "drop", **columns: Any) -> Support:
    return read_support(with_columns(ROWS, **columns), schema(on_broken))


def test_labels_are_filled_as_prepare_does() -> None:
    found = read()
    assert found.labels.tolist() == [[1, 1], [0, 0], [1, 1], [1, 255]] and found.dropped == 0
    assert found.weight is not None and found.weight.tolist() == [1, 2, 0, 3] and found.weight.dtype == np.float32


def test_rows_that_contradict_the_funnel() -> None:
    columns: Any = {"click": [0, 0, 1, 1], "conversion": [1, 0, 1, 0]}
    found = read(**columns)
    assert (found.labels.tolist(), found.dropped) == ([[0, 0], [1, 1], [1, 0]], 1)
    assert found.rows["weight"].to_pylist() == [2, 0, 3] and found.weight is not None and len(found.weight) == 3
    assert (read("imply", **columns).labels.tolist()[0], read("imply", **columns).dropped) == ([1, 1], 0)
    with pytest.raises(DataError, match="1 rows contradict the funnel, the first is row 0"):
        read("error", **columns)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.drop_columns(["click"]), "lack the label column 'click'; adapting learns from rows with"),
        (lambda rows: rows.rename_columns({"click": "clik"}), "lack the label column 'click'; did you mean 'clik'?"),
        (lambda rows: rows.drop_columns(["weight"]), "lack the weight column 'weight'; "),
        (lambda rows: with_columns(rows, conversion=[0, 1, 2, 0]), "row 2 has click = None, conversion = 2; a label"),
        (lambda rows: with_columns(rows, click=["a"] * 4), "'click' holds string"),
        (lambda rows: with_columns(rows, weight=[1.0, -1.0, 1.0, 1.0]), "row 1 has weight = -1.0; a weight is 0 or"),
        (lambda rows: with_columns(rows, weight=[1.0, 1.0, None, 1.0]), "row 2 has weight = None; a weight is 0 or"),
        (lambda rows: with_columns(rows, weight=[1.0, 1e300, 1.0, 1.0]), "row 1 has weight = 1e.300; a weight is 0 or"),
        (lambda rows: with_columns(rows, weight=0.0), "every weight in 'weight' is 0, so there is nothing to"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_learned_from(change: Callable[[pa.Table], pa.Table], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_support(change(ROWS), schema())


def test_too_few_rows() -> None:
    for rows in (ROWS.slice(0, 1), ROWS.slice(0, 0)):
        with pytest.raises(
            TooFewRowsError, match=f"there are {len(rows)} rows to adapt to, and one is held out; give 2"
        ):
            read_support(rows, schema())
    broken = with_columns(ROWS, click=[0, 0, 0, 1], conversion=[1, 1, 1, 1])
    with pytest.raises(TooFewRowsError, match="there are 1 rows to adapt to and 3 that contradict the funnel, and one"):
        read_support(broken, schema())
    assert base().adapt(tiny.draw_log(2), FEW).rows == 2


def test_weights_count_but_not_their_size_and_rows_of_0_do_not() -> None:
    rows, half = tiny.draw_log(40, 3), np.array([1, 0] * 20, np.float32)
    item = np.where(half > 0, rows["item"].to_numpy(), 5)
    heavy, seven = (with_columns(rows, weight=times * half) for times in (1, 7))
    losses = base().adapt(heavy, FEW).losses
    assert base().adapt(seven, FEW).losses == pytest.approx(losses, rel=1e-5)
    assert base().adapt(with_columns(heavy, item=item), FEW).losses == pytest.approx(losses, rel=1e-5)
    assert base().adapt(with_columns(rows, weight=1.0), FEW).losses != pytest.approx(losses, rel=1e-2)
