"""Which implementation an operation has: chosen once, for all operations of a block of code.

An operation is a function in plain PyTorch, decorated with `op`. That is its reference: any device and type,
exportable, differentiable as often as wanted. Within `compute(...)` a backend that has a kernel of the same name is
asked first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final, Literal, ParamSpec, TypeVar, get_args

import torch

from funnelcast.errors import FunnelcastError
from funnelcast.kernels import cpu

P = ParamSpec("P")
R = TypeVar("R")
Precision = Literal["float32", "bfloat16"]
"""Of the operands of matrix products."""


@dataclass(frozen=True)
class Backend:
    """Kernels by the name of their operation, and where they may be taken.

    A kernel has the arguments of its operation, and returns NotImplemented for what it does not support.
    """

    kernels: Mapping[str, Callable[..., Any]]
    device: str
    precision: Precision = "float32"
    order: int = 1
    """Derivatives that kernels have."""
    dtype: torch.dtype = torch.float32

    def supports(self, device: torch.device, dtype: torch.dtype, precision: Precision, order: int) -> bool:
        """Whether it is for this work."""
        own = (self.device, self.dtype, self.precision)
        return own == (device.type, dtype, precision) and order <= self.order


BACKENDS: Final[list[Backend]] = [
    Backend(cpu.FLOAT32, "cpu"),
    Backend(cpu.BFLOAT16, "cpu", "bfloat16"),
]
"""In the order in which they are asked. Without one, operations run as they are written."""
_thread = threading.local()


def op(reference: Callable[P, R]) -> Callable[P, R]:
    """Make an operation of its reference: a kernel of the same name takes its place where a backend has one."""
    name = reference.__name__

    @wraps(reference)
    def dispatched(*args: P.args, **kwargs: P.kwargs) -> R:
        kernel = _kernels().get(name)
        if kernel is not None and (found := kernel(*args, **kwargs)) is not NotImplemented:
            return found  # type: ignore[no-any-return]
        return reference(*args, **kwargs)

    return dispatched


def _kernels() -> Mapping[str, Callable[..., Any]]:
    return getattr(_thread, "kernels", {})


@contextmanager
def compute(
    device: torch.device, *, precision: Precision = "float32", order: int = 1, dtype: torch.dtype = torch.float32
) -> Iterator[None]:
    """Choose the backend of this thread's operations within the block.

    Args:
        device: where the tensors are.
        precision: of the operands of matrix products; sums and parameters stay in `dtype`.
        order: how often results will be differentiated; 0 for scoring.
        dtype: of the tensors.

    Raises:
        FunnelcastError: the processor has no products of that precision.
    """
    check_precision(precision, device)
    before = _kernels()
    backend = next((each for each in BACKENDS if each.supports(device, dtype, precision, order)), None)
    _thread.kernels = {} if backend is None else backend.kernels
    rounds = backend is None and precision == "bfloat16"
    try:
        with torch.autocast(device.type, torch.bfloat16) if rounds else nullcontext():
            yield
    finally:
        _thread.kernels = before


def check_precision(precision: Precision, device: torch.device) -> None:
    """Raise FunnelcastError for a precision that is misspelt, or that the processor has no products of."""
    if precision not in get_args(Precision):
        raise FunnelcastError(f"precision {precision!r} is not known; take one of {', '.join(get_args(Precision))}")
    if precision == "bfloat16" and device.type == "cpu" and (reason := cpu.why_no_bfloat16()):
        raise FunnelcastError(f"precision = 'bfloat16': {reason}; take precision = 'float32'")
