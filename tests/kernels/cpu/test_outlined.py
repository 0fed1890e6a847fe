"""Kernels that others call by an address: as if they were compiled within them, and no failure is lost."""

import numpy as np
import pytest
from numba.core.errors import TypingError

from funnelcast.compiled import compiled_for_speed
from funnelcast.kernels.cpu.gemm import matrix
from funnelcast.kernels.cpu.graph import launch
from funnelcast.kernels.cpu.outlined import outlined


@outlined(3, 1)
def scale_row(to: int, row: int, columns: int, factor: float) -> None:
    own = matrix(to + row * columns * 4, 1, columns)
    for j in range(columns):
        own[0, j] *= factor


@compiled_for_speed
def scale_rows(to: int, rows: int, columns: int) -> None:
    for row in range(rows):
        scale_row(to, row, columns, np.float32(row + 1))


@outlined(1)
def fail(to: int) -> None:
    matrix(to, 1, 1)[0, 0] = "a text"  # type: ignore[index]


@compiled_for_speed
def call_fail(to: int) -> None:
    fail(to)


def test_a_kernel_calls_it() -> None:
    found = np.ones((3, 5), np.float32)
    launch(scale_rows, found.ctypes.data, 3, 5)
    np.testing.assert_array_equal(found, np.repeat([[1], [2], [3]], 5, 1))
    scale_row.from_python(found.ctypes.data, 1, 5, 0.5)
    np.testing.assert_array_equal(found[1], 1)


def test_a_failure_to_compile_it_is_raised_and_later_calls_are_not_harmed() -> None:
    """No exception passes through a kernel: it is kept, and raised after it."""
    found = np.ones((3, 5), np.float32)
    with pytest.raises(TypingError):
        launch(call_fail, found.ctypes.data)
    launch(scale_rows, found.ctypes.data, 3, 5)
    np.testing.assert_array_equal(found[2], 3)
