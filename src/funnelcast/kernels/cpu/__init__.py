"""Kernels for the CPU in float32, and in bfloat16 where the processor multiplies it: compiled by numba at first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from torch import Tensor

from funnelcast.kernels.cpu.adam import adam, adam_rows
from funnelcast.kernels.cpu.attention import self_attention
from funnelcast.kernels.cpu.bank import expert_mixture, linear, mlp_bank
from funnelcast.kernels.cpu.dedup import deduplicate
from funnelcast.kernels.cpu.dropout import fill_bits
from funnelcast.kernels.cpu.graph import launch
from funnelcast.kernels.cpu.losses import funnel_losses
from funnelcast.kernels.cpu.reach import reach
from funnelcast.kernels.cpu.sparse import gather, scatter_add, unique
from funnelcast.kernels.cpu.tiles import HAS_BF16


def why_no_bfloat16() -> str:
    """Return why this process cannot multiply bfloat16; empty where it can."""
    return "" if HAS_BF16 else "this processor has no AVX-512 BF16, which multiplies it"


def random_bits(words: Tensor, seeds: Tensor, block: int, stream: int) -> Any:
    """`ops.random_bits`."""
    launch(_fill, words.numpy(), seeds.numpy(), block, stream)
    return words


def _fill(words: Any, seeds: Any, block: int, stream: int) -> None:
    fill_bits(words, seeds[block], stream, 0)


FLOAT32: Final[Mapping[str, Callable[..., Any]]] = {
    kernel.__name__: kernel
    for kernel in (
        adam, adam_rows, deduplicate, expert_mixture, funnel_losses, gather, linear, mlp_bank, random_bits,
        reach, scatter_add, self_attention, unique,
    )
}  # fmt: skip
"""By operation. A kernel returns NotImplemented for arguments that it does not support."""
BFLOAT16: Final[Mapping[str, Callable[..., Any]]] = {
    **FLOAT32, **{k.__name__: partial(k, bf16=True) for k in (expert_mixture, linear, mlp_bank)}
}  # fmt: skip
"""The same, with operands of matrix products rounded to bfloat16."""
