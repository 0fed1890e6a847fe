"""A pause of Python's garbage collector, for objects that stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused_gc() -> Iterator[None]:
    """Turn the cyclic collector off within the block, and move what was made there to the oldest generation.

    Modules and a loaded model are some hundred thousand objects. While they are made the collector would go through
    them several times, for a sixth of a second in all. It seldom goes through the oldest generation.
    """
    is_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():  # else somebody has frozen objects of their own
            gc.freeze()
            gc.unfreeze()
        if is_on:
            gc.enable()
