"""Numbers to Arrow and back."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

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
