"""Loops over numbers as machine code: compiled at the first call, kept on disk, run without Python's lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """`function` compiled. Division is numpy's: by zero it gives inf or nan, where Python's check would cost much."""
    made: Function = njit(cache=True, nogil=True, error_model="numpy")(function)
    return made


def compiled_for_speed(function: Function) -> Function:
    """The same, free to reorder sums. Not to forget nan and infinity: by them a diverging run is noticed."""
    loose = {"reassoc", "contract", "nsz"}
    made: Function = njit(cache=True, nogil=True, error_model="numpy", fastmath=loose)(function)
    return made
