"""Random bits for dropout, and the kernel that activates a layer's output and drops out of it.

The bits are those of `funnelcast.ops.dropout`: SplitMix64 (Steele, Lea and Flood 2014), four draws a word.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from funnelcast.compiled import compiled, compiled_for_speed
from funnelcast.kernels.cpu.codegen import FLOAT
from funnelcast.kernels.cpu.gemm import longs, matrix, of, shorts

SHORT: Final = 2
"""Bytes of a draw."""
PER_WORD: Final = 4
GOLDEN: Final = 0x9E3779B97F4A7C15
FIRST: Final = 0xBF58476D1CE4E5B9
SECOND: Final = 0x94D049BB133111EB
STREAM: Final = 0xD1B54A32D192ED03
"""Times the number of a layer, it is added to a seed."""


@compiled
def fill_bits(words: Any, seed: Any, stream: int, done: int) -> None:
    """Fill int64 words (n,) with those after the first `done` of a stream of a seed."""
    state = np.uint64(seed) + np.uint64(stream) * np.uint64(STREAM) + np.uint64(done) * np.uint64(GOLDEN)
    for i in range(len(words)):
        state += np.uint64(GOLDEN)
        z = (state ^ (state >> np.uint64(30))) * np.uint64(FIRST)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(SECOND)
        words[i] = np.int64(z ^ (z >> np.uint64(31)))


@compiled_for_speed
def activate_and_drop(bank: Any, output: int, n: int, start: int, rows: int, layer: Any) -> None:
    """y = dropout(leaky_relu(y + bias)) of a block of network n, in place; the rows of one seed at a time."""
    width, done = layer.width, 0
    bias = of(layer.bias, n, 1, width)
    while done < rows:
        k = (start + done) // layer.seed_rows
        first = k * layer.seed_rows
        own, at = min(layer.seed_rows, bank.rows - first), start + done - first
        count = min(rows - done, own - at)
        before = (n * own + at) * width  # draws of this seed
        words = longs(bank.draws, (before % PER_WORD + count * width + PER_WORD - 1) // PER_WORD)
        fill_bits(words, longs(layer.seeds, k + 1)[k], layer.stream, before // PER_WORD)
        draws = bank.draws + before % PER_WORD * SHORT
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
