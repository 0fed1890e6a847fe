"""Looking rows of a table up, the next ones on their way from memory meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from funnelcast.compiled import compiled, fetch
from funnelcast.layers.tiles import FLOAT

LINE: Final = 64
"""Bytes that come at a time."""
AHEAD: Final = 2
"""Rows of the batch that are fetched beforehand."""


def look_up(ids: Tensor, columns: Tensor, starts: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
    """The rows that ids (B, F) stand for, one after the other: (B, fields · E), in `out` if it is given. `columns` and
    `starts` (fields,) of the ids and of the table's `weight` (V, E), in float32 on the CPU."""
    out = weight.new_empty(len(ids), len(columns) * weight.shape[1]) if out is None else out
    copy_rows(ids.numpy(), columns.numpy(), starts.numpy(), weight.detach().numpy(), out.numpy())
    return out


def side_by_side(parts: Sequence[Tensor], out: Tensor | None) -> Tensor:
    """Side by side; in `out` if it is given, where some may be already."""
    if out is None:
        return torch.cat(tuple(parts), dim=1) if len(parts) > 1 else parts[0]
    for part, place in zip(parts, out.split([part.shape[1] for part in parts], dim=1), strict=True):
        if part.data_ptr() != place.data_ptr():
            place.copy_(part)
    return out


@compiled
def copy_rows(ids: Any, columns: Any, starts: Any, weight: Any, out: Any) -> None:
    """Fills `out`."""
    width, address = weight.shape[1], weight.ctypes.data
    last = width * FLOAT - FLOAT if width * FLOAT % LINE else 0  # bytes to a number that may be on another line
    for i in range(len(ids)):
        if i + AHEAD < len(ids):
            for f in range(len(columns)):
                row = np.int64(ids[i + AHEAD, columns[f]]) + starts[f]
                fetch(address + row * width * FLOAT)
                if last:
                    fetch(address + row * width * FLOAT + last)
        for f in range(len(columns)):
            row = np.int64(ids[i, columns[f]]) + starts[f]
            for j in range(width):
                out[i, f * width + j] = weight[row, j]
