"""What compiled loops bring with them, and what they leave alone."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from funnelcast.compiled import compiled, helper, uncounted


@compiled
def kernel(sums: Any, numbers: Any) -> None:
    """Sums of rows, in their order."""
    for i in range(len(numbers)):
        total = np.float32(0)
        for j in range(numbers.shape[1]):
            total += numbers[i, j]
        sums[i] = total


@helper
def doubled(number: Any) -> Any:
    return 2 * number


def arguments() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    numbers = 10.0 ** np.random.default_rng(0).uniform(-6, 6, (50, 1001))
    return np.zeros(50, np.float32), numbers.astype(np.float32)


@pytest.mark.slow
def test_the_first_call_needs_no_linear_algebra_and_takes_none_away() -> None:
    """numba imports scipy's to know whether it is there; who multiplies matrices by numba still finds it."""
    code = (
        "import sys; import numpy as np; from numba import njit\n"
        "from tests.test_compiled import arguments, kernel\n"
        "kernel(*arguments()); print('scipy.linalg' in sys.modules)\n"
        "print(njit(lambda a, b: a @ b)(np.ones((2, 3)), np.ones((3, 2))).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["False", "[[3.0, 3.0], [3.0, 3.0]]"]


def test_an_array_that_is_borrowed_is_the_same_one() -> None:
    @compiled
    def double(numbers: Any) -> Any:
        ours = uncounted(numbers)
        for i in range(len(ours)):
            ours[i] *= 2
        return ours.shape[0], ours.strides[0]

    numbers = np.arange(6.0)[::2]
    assert double(numbers) == (3, 16)
    assert numbers.tolist() == [0, 4, 8]
    assert sys.getrefcount(numbers) == 2


def test_nobody_counts_who_holds_an_array_that_is_borrowed() -> None:
    """What is counted by stands in the array itself: in one that is borrowed there is nothing."""

    def holder(typing: Any, array: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            view = context.make_array(array)(context, builder, values[0])
            return builder.ptrtoint(view.meminfo, ir.IntType(64))

        return types.int64(array), code

    holder_of = intrinsic(holder)

    @njit  # type: ignore[untyped-decorator]
    def holders(numbers: Any) -> tuple[int, int]:
        return holder_of(numbers), holder_of(uncounted(numbers))

    own, of_borrowed = holders(np.arange(3.0))
    assert own != 0 and of_borrowed == 0


def test_who_calls_first_changes_nothing() -> None:
    """Not even one that is free to reorder sums, which numba hands down."""
    dispatcher: Any = kernel
    first = njit(fastmath=dispatcher.targetoptions["fastmath"])(dispatcher.py_func)

    @njit(fastmath=True)  # type: ignore[untyped-decorator]
    def call(sums: Any, numbers: Any) -> None:
        first(sums, numbers)

    (found, numbers), (expected, _) = arguments(), arguments()
    call(found, numbers)
    kernel(expected, numbers)
    np.testing.assert_array_equal(found, expected)


def test_a_helper_is_called_by_kernels_alone() -> None:
    """Python would call what there is no code for."""

    @compiled
    def twice(number: Any) -> Any:
        return doubled(number) + doubled(number)

    assert twice(3) == 12
    with pytest.raises(TypeError, match="doubled is a helper, which only kernels call"):
        doubled(3)
