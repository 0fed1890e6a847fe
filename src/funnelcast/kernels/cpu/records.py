"""Call records of the bank kernels: addresses and sizes, all int64 but a layer's last two fields.

What a call does not need is 0. Shapes in comments: N networks, B rows, H width, T steps.
"""

from __future__ import annotations

from typing import Final

import numpy as np

LAYER: Final = np.dtype([(name, np.int64) for name in (
    "width_in", "width",
    "weight", "bias",  # (N, width_in, width), (N, width)
    "output",  # (N, B, width), or (BLOCK, width) where nothing is kept
    "output_step", "output_row",  # bytes from a network's output to the next one's, and from a row to the next; or 0
    "seeds", "seed_rows", "stream", "limit",  # of dropout: (B / seed_rows,) int64, rows of each, ops.dropout
    "grad_weight", "grad_bias",
)] + [("scale", np.float32), ("slope", np.float32)])  # fmt: skip
"""A layer of all networks. The activation multiplies what is not above 0 by `slope`: 0 for ReLU, 1 for none."""

BANK: Final = np.dtype([(name, np.int64) for name in (
    "networks", "rows",
    "x", "x_step",  # (B, width_in), and the bytes from one network's to the next one's; 0 where they share it
    "gates", "columns",  # (B, K), and K; 0 without gates
    "mixture", "steps",  # (T, B, H), and T
    "grad",  # (T, B, H) of the mixture, or (N, B, H) of the last outputs
    "grad_x", "grad_x_step", "grad_gates",
    "scratch", "scratch_step",  # two buffers (BLOCK, widest layer), and the bytes between them
    "packed",  # buffer for weights in panels
    "gemm_scratch",  # as `gemm_tn_scratch` says
    "draws",  # buffer for the random bits of (BLOCK, widest layer), and a word more
    "bf16",  # whether products are of bfloat16: 0 or 1
    "vnni", "vnni_step",  # two buffers for packed bfloat16 of (BLOCK, widest layer), and the bytes between them
    "inverse", "groups",  # (B, G) int32: rows of `tables` that add up to a row's part of the first layer; and G
    "tables", "grad_tables", "table_rows",  # (N, C, H) twice, and C
)])  # fmt: skip
"""A call of a bank."""

EDGE: Final = np.dtype([("step", np.int64), ("column", np.int64)])
"""A gate that sees a network, and the column of its weight."""
