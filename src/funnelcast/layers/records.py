"""What compiled loops are told: records of addresses and sizes, all int64 but for a layer's last two."""

from __future__ import annotations

from typing import Final

import numpy as np

LAYER: Final = np.dtype([(name, np.int64) for name in (
    "width_in", "width",
    "weight", "bias",  # (N, width_in, width), (N, width)
    "output",  # (N, B, width), or for a block alone
    "output_step", "output_row",  # bytes from a network's to the next one's, and from a row to the next; 0 in a block's
    "seeds", "seed_rows", "limit",  # of dropout: (B / seed_rows,) int64; 0 without it
    "grad_weight", "grad_bias",  # (N, width_in, width), (N, width)
    "adds",  # whether `grad_weight` is added to, where nothing repeats: 0 or 1
    "delta",  # (N, B, width): the gradient before bias, ReLU and dropout, kept for a second derivative
    "toward",  # (N, B, width): a gradient of the output from elsewhere
    "turn_weight", "turn_bias",  # a gradient of `grad_weight` and `grad_bias`
)] + [("scale", np.float32), ("slope", np.float32)])  # fmt: skip
"""A layer of all networks. What is not needed is 0. Numbers not above 0 are multiplied by `slope`: 0 for a ReLU, some
number up to 1 for a leaky one, and 1 for a linear layer."""

BANK: Final = np.dtype([(name, np.int64) for name in (
    "networks", "rows",
    "x", "x_step",  # (B, width_in), and the bytes from one network's to the next one's; 0 where they share it
    "gates", "columns",  # (B, K); K is 0 without gates
    "mixed", "steps",  # (T, B, H), and T
    "grad",  # (T, B, H) of the mixture, or (N, B, H) of the last outputs
    "before", "before_gates",  # with gates, the `grad` of a gradient before, and a gradient of its `grad_gates`
    "grad_x", "grad_x_step", "grad_gates",
    "adds_x",  # whether `grad_x` is added to, where nothing repeats: 0 or 1
    "turn_x", "turn_x_step", "turn_gates", "turn_grad",  # a gradient of the three above; that of `grad`
    "scratch", "scratch_step",  # two spaces for (BLOCK, widest layer), and the bytes between them
    "packed",  # space for the weights of a network in panels
    "room",  # `turned_room`
    "draws",  # space for (BLOCK, widest layer) int16, and a number more
    "half",  # whether products are of bfloat16: 0 or 1
    "paired", "paired_step",  # two spaces for pairs of (BLOCK, widest layer), and the bytes between them
    "whole",  # rows of the first weight; where vectors repeat, x and grad_x are the columns of no group, and
    "codes", "readers", "vectors", "count",  # as in Repeats
    "sums",  # space for (N, count, H) forward, (count, H) back, of the first layer's width H
    "first_weight", "first_grad",  # spaces for (width_in, H)
    "grad_whole", "grad_vectors",  # (B, whole), and a space for as many numbers as `vectors` has
)])  # fmt: skip
"""A call: what is not needed is 0."""

SEEN: Final = np.dtype([("step", np.int64), ("column", np.int64)])
"""A step that sees a network, and the column of its gate weight."""

ATTENTION: Final = np.dtype([(name, np.int64) for name in (
    "steps", "rows", "width",
    "x", "out", "grad", "grad_x",  # (T, B, H)
    "keep",  # whether what targets and edges have room for is of all rows, and not of a block alone: 0 or 1
    "scratch",  # five spaces for (BLOCK, H), after which LANES numbers more can be read, and one for (3 tokens, BLOCK)
    "packed", "room", "half", "paired", "paired_step",  # as in BANK
    "turn_x", "turn_grad",  # (T, B, H): gradients of `grad_x` and, from elsewhere, of `out`
    "turn_out",  # (T, B, H): a gradient of `grad`, which is how `out` changes along all gradients of gradients
    "turn_packed",  # as `packed`
)])  # fmt: skip
"""A call of attention: what is not needed is 0."""

TARGET: Final = np.dtype([(name, np.int64) for name in (
    "step", "first", "last",  # of the edges into it, `last` not included
    "score", "value",  # (H, H): (in, out), (out, in)
    "scored",  # (B, H): its own token times `score`
    "shares", "mixed",  # (tokens, B), (B, H)
    "grad_score", "grad_value",  # (in, out)
    "grad_out", "grad_mixed", "slopes",  # (B, H) twice, (tokens, B): kept for a second derivative, or 0
    "turn_score", "turn_value",  # (in, out): gradients of `grad_score` and `grad_value`
    "turn_scored", "turn_mixed", "turn_shares",  # how `scored`, `mixed` and `shares` change along them
)])  # fmt: skip
"""A step with edges into it."""

EDGE: Final = np.dtype([(name, np.int64) for name in (
    "source",
    "weight", "bias",  # (out, in), (H,)
    "told", "scored",  # (B, H): the token, and that times `score`
    "grad_weight", "grad_bias",  # (in, out), (H,)
    "grad_told",  # (B, H), before the ReLU: kept for a second derivative, or 0
    "turn_weight", "turn_bias",  # (in, out), (H,): gradients of `grad_weight` and `grad_bias`
    "turn_told", "turn_scored",  # how `told` and `scored` change along them
)])  # fmt: skip
"""What a step tells another one."""
