"""Numbers to Arrow and back."""

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from funnelcast.data import arrow
from funnelcast.data.arrow import array_of, numbers_of


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32, np.uint8])
@pytest.mark.parametrize("rows", [0, 1, 100])
def test_as_pyarrow_has_them(rows: int, dtype: type) -> None:
    numbers: NDArray[Any] = np.arange(3 * rows).astype(dtype)[::3]
    array = array_of(numbers)
    assert array.equals(pa.array(numbers)) and array.validate(full=True) is None
    assert np.array_equal(numbers_of(array), numbers) and numbers_of(array).dtype == dtype
    assert np.array_equal(numbers_of(array[rows // 3 : rows // 2]), numbers[rows // 3 : rows // 2])


def test_an_array_of_nothing() -> None:
    assert numbers_of(pa.array([], pa.int64())).tolist() == []


@pytest.mark.parametrize("values", [pa.array([1, None, 3], pa.int32()), pa.array([None, 0.5]), pa.nulls(3, pa.int64())])
def test_what_stands_for_nulls(values: pa.Array) -> None:
    many = pa.concat_arrays([values] * 9)
    for array in (values, values[1:], many[4:], many[8:16], many[9:14], many[len(many) :]):
        expected = array.fill_null(7).to_numpy(zero_copy_only=False)
        found = numbers_of(array, missing=7)
        assert np.array_equal(found, expected) and found.dtype == expected.dtype
    with pytest.raises(AssertionError, match="nulls"):
        numbers_of(values)


PLAIN: list[Any] = [
    [1, -(2**63), 2**63 - 1],
    [1, None, 3],
    [None, 0.5, float("nan"), float("-inf")],
    [1.5],
    ["a", "", "größer", "😀"],
    ["a", None, ""],
    [None, None],
    [],
    [True, False],
    [1, 2.5],
    [[1, 2], None],
    [np.int32(4), np.int32(5)],
    np.array([1, 2], np.int32),
    np.array([1.5, np.nan]),
    np.array([False, True, True]),
    np.ma.masked_array([1, 2, 3], [False, True, False]),
    np.array(["a", "b"], object),
    np.arange(6)[::-2],
]


@pytest.mark.parametrize("values", PLAIN, ids=str)
def test_columns_as_pyarrow_makes_them(values: Any) -> None:
    expected = pa.array(values)
    for loaded in ("pandas", "none"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(arrow, "sys", SimpleNamespace(modules={loaded}))
            found = arrow.column_of(values)
        assert found.type == expected.type and found.null_count == expected.null_count
        assert found.validate(full=True) is None and str(found) == str(expected)


REFUSED: list[Any] = [[1, True], [2**63], ["\ud800"], [1, "a"], [...], np.zeros((2, 2)), np.array([1, 2], ">i4")]


@pytest.mark.parametrize("values", REFUSED, ids=str)
def test_what_pyarrow_refuses_is_refused_alike(values: Any) -> None:
    with pytest.raises(Exception) as expected:
        pa.array(values)
    with pytest.raises(type(expected.value), match=re.escape(str(expected.value))):
        arrow.column_of(values)
