"""Random bits for dropout, and the kernel that activates a layer's output and drops out of it.

The bits are those of `funnelcast.ops.dropout`: SplitMix64 (Steele, Lea and Flood 2014), four draws a word.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from funnelcast.compiled import compiled, helper
from funnelcast.kernels.cpu.codegen import FLOAT
from funnelcast.kernels.cpu.gemm import longs, matrix, shorts
from funnelcast.kernels.cpu.outlined import outlined

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


@outlined(12, 2)
def activate_and_drop(
    output: int, bias: int, n: int, start: int, rows: int, all_rows: int, width: int, seeds: int, seed_rows: int,
    stream: int, limit: int, buffer: int, scale: float, slope: float,
) -> None:  # fmt: skip
    """Y = dropout(leaky_relu(y + bias)) of a block of network n, in place; the rows of one seed at a time. `buffer`
    holds the draws of a block, and a word more."""
    done = 0
    while done < rows:
        k = (start + done) // seed_rows
        first = k * seed_rows
        own, at = min(seed_rows, all_rows - first), start + done - first
        count = min(rows - done, own - at)
        before = (n * own + at) * width  # draws of this seed
        words = longs(buffer, (before % PER_WORD + count * width + PER_WORD - 1) // PER_WORD)
        fill_bits(words, longs(seeds, k + 1)[k], stream, before // PER_WORD)
        draws = buffer + before % PER_WORD * SHORT
        _drop(output + done * width * FLOAT, bias, draws, count, width, limit, scale, slope)
        done += count


@helper
def _drop(
    output: int, bias: int, drawn: int, rows: int, width: int, limit: int, scale: float, slope: float
) -> None:  # fmt: skip
    y, b, draws = matrix(output, rows, width), matrix(bias, 1, width), shorts(drawn, rows, width)
    for r in range(rows):
        for j in range(width):
            value = y[r, j] + b[0, j]
            value = value * slope if value <= 0 else value
            y[r, j] = np.float32(0) if draws[r, j] < limit else value * scale
