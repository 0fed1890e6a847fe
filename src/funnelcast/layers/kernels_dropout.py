"""The compiled loop that activates a layer's output and drops out of it, a block at a time, with draws of its own."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from funnelcast.compiled import compiled_for_speed
from funnelcast.layers.dropout import PER_NUMBER, fill_by_splitmix
from funnelcast.layers.products import longs, matrix, of, shorts
from funnelcast.layers.tiles import FLOAT

SHORT: Final = 2
"""Bytes of a draw."""


@compiled_for_speed
def activate_and_drop(bank: Any, output: int, n: int, start: int, rows: int, layer: Any) -> None:
    """y = dropout(relu(y + bias)) of a block of network n, in place; some rows of one seed at a time."""
    width, done = layer.width, 0
    bias = of(layer.bias, n, 1, width)
    while done < rows:
        k = (start + done) // layer.seed_rows
        first = k * layer.seed_rows
        own, at = min(layer.seed_rows, bank.rows - first), start + done - first
        count = min(rows - done, own - at)
        before = (n * own + at) * width  # draws of this seed
        numbers = longs(bank.draws, (before % PER_NUMBER + count * width + PER_NUMBER - 1) // PER_NUMBER)
        fill_by_splitmix(numbers, longs(layer.seeds, k + 1)[k], before // PER_NUMBER)
        draws = bank.draws + before % PER_NUMBER * SHORT
        _drop(output + done * width * FLOAT, bias, draws, count, width, layer.limit, layer.scale, layer.slope)
        done += count


@compiled_for_speed
def _drop(
    output: int, bias: int, drawn: int, rows: int, width: int, limit: int, scale: float, slope: float
) -> None:  # fmt: skip
    y, b, draws = matrix(output, rows, width), matrix(bias, 1, width), shorts(drawn, rows, width)
    for r in range(rows):
        for j in range(width):
            value = y[r, j] + b[0, j]
            value = value * slope if value <= 0 else value
            y[r, j] = np.float32(0) if draws[r, j] < limit else value * scale
