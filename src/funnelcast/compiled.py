"""Kernels, loops over numbers as machine code: compiled at the first call, kept on disk, run without Python's lock."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, TypeVar

from numba import njit
from numba.core import cgutils, event
from numba.core.registry import CPUDispatcher
from numba.extending import intrinsic
from numba.np import linalg

from funnelcast.runtime.kernel_cache import KernelCache

LOOSE: Final = {"reassoc", "contract", "nsz"}
"""What sums may be reordered by. Not to forget nan and infinity: by them a diverging run is noticed."""
Function = TypeVar("Function", bound=Callable[..., Any])
_OF_ARRAYS: Final = "numba.np.arraymath"


def _import_without_scipy() -> None:
    """Numba's functions of arrays, as the first call of a kernel needs them: they import scipy's linear algebra, 0.1 to
    0.35 s of a start, only to know whether it is there. What multiplies matrices by it still imports it."""
    if find_spec("scipy") is None or _OF_ARRAYS in sys.modules:
        return
    own = linalg.ensure_blas
    linalg.ensure_blas = lambda: None
    try:
        import_module(_OF_ARRAYS)
    finally:
        linalg.ensure_blas = own


_import_without_scipy()


def compiled(function: Function) -> Function:
    """`function` compiled. Division is numpy's: by zero it gives inf or nan, where Python's check would cost much.

    No sum is reordered, whoever calls it: numba hands down what its first caller is free to do to a function that
    says nothing else.
    """
    return dispatcher_of(function, False)


def compiled_for_speed(function: Function) -> Function:
    """`function` compiled as by `compiled`, but free to reorder sums."""
    return dispatcher_of(function, LOOSE)


def helper(function: Function) -> Function:
    """`compiled_for_speed`, of a function that other kernels call: it compiles a quarter faster. A call from Python
    raises TypeError."""
    made: Any = dispatcher_of(function, LOOSE, no_cpython_wrapper=True, no_cfunc_wrapper=True)
    made.__class__ = _Helper
    found: Function = made
    return found


class _Helper(CPUDispatcher):  # type: ignore[misc]
    """Without the wrapper that a call from Python needs, which numba would take for granted: the process would end."""

    def __call__(self, *arguments: Any) -> Any:
        raise TypeError(f"{self.py_func.__name__} is a helper, which only kernels call")


def dispatcher_of(function: Function, fastmath: Any, **more: bool) -> Function:
    """Numba's function; `more` of its options."""
    made: Any = njit(nogil=True, error_model="numpy", fastmath=fastmath, **more)(function)
    made._cache = KernelCache(function)
    found: Function = made
    return found


def inlined(function: Function) -> Function:
    """A part of kernels, of which each has a copy: a call with many arrays costs more than short work in it."""
    made: Function = njit(inline="always")(function)
    return made


@contextmanager
def on_compile(say: Callable[[], None]) -> Iterator[None]:
    """Call `say` whenever a kernel begins to be compiled, meanwhile."""

    class Listener(event.Listener):  # type: ignore[misc]
        def on_start(self, event: Any) -> None:
            say()

        def on_end(self, event: Any) -> None:
            pass

    with event.install_listener("numba:compile", Listener()):
        yield


def _uncount(typing: Any, array: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        view = context.make_array(array)(context, builder, values[0])
        view.meminfo, view.parent = (cgutils.get_null_value(each.type) for each in (view.meminfo, view.parent))
        return view._getvalue()

    return array(array), code


uncounted = intrinsic(_uncount)
"""An array of which nobody counts who holds it, for a kernel that hands it on. Each hand would count, by an operation
that two threads with one array wait for; the kernel's caller has it meanwhile anyway."""
