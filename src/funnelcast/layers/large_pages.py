"""Tables on pages of 2 MB: rows that are read at random then lie on few pages, and fewer reads have to ask which.

numpy asks for them of its own accord, PyTorch does not.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Final

from torch import Tensor

LEAST: Final = 4 << 20
"""Bytes from which on there is something to gain."""


def on_large_pages(table: Tensor) -> Tensor:
    """The same tensor; what of it was not yet written to will be on large pages, where Linux has some. Elsewhere, and
    for tensors on a GPU, nothing happens."""
    size = table.numel() * table.element_size()
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    if advice is not None and table.device.type == "cpu" and size >= LEAST:
        first = -(-table.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE  # of whole pages
        whole = (table.data_ptr() + size - first) // mmap.PAGESIZE * mmap.PAGESIZE
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(whole), advice)
    return table
