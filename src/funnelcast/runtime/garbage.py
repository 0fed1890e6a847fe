"""Python's search for garbage, put off while what is made stays."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_search() -> Iterator[None]:
    """Modules and a loaded model are some hundred thousand objects; while they are made Python would look through them
    again and again, for a sixth of a second. Afterwards they are among the oldest, which it seldom looks through."""
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
