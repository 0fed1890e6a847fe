"""What compiled loops bring with them, and what they leave alone."""

import subprocess
import sys
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from funnelcast.compiled import borrowed, compiled
from funnelcast.layers.exponentials import exponentiate


def test_the_first_call_needs_no_linear_algebra_and_takes_none_away() -> None:
    """numba imports scipy's to know whether it is there; who multiplies matrices by numba still finds it."""
    code = (
        "import sys; import numpy as np; from numba import njit\n"
        "from funnelcast.layers.exponentials import exponentiate\n"
        "exponentiate(np.zeros(1, np.float32)); print('scipy.linalg' in sys.modules)\n"
        "print(njit(lambda a, b: a @ b)(np.ones((2, 3)), np.ones((3, 2))).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["False", "[[3.0, 3.0], [3.0, 3.0]]"]


def test_an_array_that_is_borrowed_is_the_same_one() -> None:
    @compiled
    def double(numbers: Any) -> Any:
        ours = borrowed(numbers)
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
        return holder_of(numbers), holder_of(borrowed(numbers))

    own, of_borrowed = holders(np.arange(3.0))
    assert own != 0 and of_borrowed == 0


def test_who_calls_first_changes_nothing() -> None:
    """Not even one that is free to reorder sums, which numba hands down."""
    dispatcher: Any = exponentiate
    first = njit(fastmath=dispatcher.targetoptions["fastmath"])(dispatcher.py_func)

    @njit(fastmath=True)  # type: ignore[untyped-decorator]
    def call(numbers: Any) -> None:
        first(numbers)

    x = -np.linspace(0, 80, 10_001, dtype=np.float32)
    found, expected = x.copy(), x.copy()
    call(found)
    exponentiate(expected)
    np.testing.assert_array_equal(found, expected)
