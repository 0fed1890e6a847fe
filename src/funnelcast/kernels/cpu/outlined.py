"""Kernels that others call by an address in memory, so that they are compiled once.

numba compiles what a kernel calls once more within it, down to the last tile of a matrix product: most of a minute for
all. The address is at first that of a function in Python, which compiles the kernel.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, Final

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from funnelcast.compiled import LOOSE, dispatcher_of

_failed: Final[list[BaseException]] = []
"""What ended a compilation in the midst of a kernel, Ctrl-C for instance; no exception passes through one."""


def outlined(integers: int, floats: int = 0) -> Callable[[Callable[..., Any]], Any]:
    """Make a kernel without a result of a function of so many int64 and then so many float32 numbers.

    Kernels call it by its name; tests by `from_python`. Whoever calls kernels from Python calls `raise_failed` after
    them: what they made may be wrong before.
    """
    arguments = (types.int64,) * integers + (types.float32,) * floats
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * integers, *[ctypes.c_float] * floats)

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher: Any = dispatcher_of(function, LOOSE, no_cpython_wrapper=True)

        def compile_and_call(*values: Any) -> None:
            try:
                dispatcher.compile(arguments)
                made = dispatcher.overloads[arguments]
                compiled = made.library.get_pointer_to_function(made.fndesc.llvm_cfunc_wrapper_name)
                kind(compiled)(*values)
                address.value = compiled
            except BaseException as failure:
                _failed.append(failure)

        first = kind(compile_and_call)
        address = ctypes.c_int64(ctypes.cast(first, ctypes.c_void_p).value or 0)
        name = f"{function.__module__}.{function.__qualname__}"
        binding.add_symbol(name, ctypes.addressof(address))
        call = _call_of(name, arguments)
        call.from_python, call.address = first, address
        return call

    return decorate


def raise_failed() -> None:
    """Raise what ended a compilation since the last call."""
    if _failed:
        raise _failed.pop()


def _call_of(name: str, arguments: tuple[Any, ...]) -> Any:
    """A call of the function whose address is at a symbol. numba looks at how many arguments an intrinsic has."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = ir.FunctionType(ir.VoidType(), [value.type for value in values]).as_pointer()
        known = builder.module.globals
        place = known[name] if name in known else cgutils.add_global_variable(builder.module, pointer, name)
        builder.call(builder.load(place), values)
        return context.get_dummy_value()

    names = ", ".join(f"_{i}" for i in range(len(arguments)))
    return intrinsic(eval(f"lambda typing, {names}: found", {"found": (types.void(*arguments), code)}))
