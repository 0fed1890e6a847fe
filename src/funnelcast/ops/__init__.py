"""Operations that layers, losses and optimizers call. Each is written once in plain PyTorch; kernels take its place
within `compute(...)` where a backend has one. Only this package knows that there are kernels."""

from funnelcast.kernels.cpu.buffers import keep_freed_memory
from funnelcast.kernels.cpu.graph import Captured
from funnelcast.ops.adam import adam, adam_rows, bias_corrections
from funnelcast.ops.dispatch import BACKENDS, Backend, Precision, check_precision, compute, op
from funnelcast.ops.dropout import DropoutKey, dropout, random_bits
from funnelcast.ops.losses import errors, funnel_losses, step_losses
from funnelcast.ops.network import (
    Edges,
    Field,
    attend,
    deduplicate,
    expert_mixture,
    linear,
    linear_bank,
    logits,
    mlp_bank,
    self_attention,
    softmax_gates,
    step_attention,
)
from funnelcast.ops.reach import Reach, chain_reach, independent_reach, reach
from funnelcast.ops.sparse import gather, scatter_add, scatter_add_bags, unique

__all__ = [
    "BACKENDS", "Backend", "Captured", "DropoutKey", "Edges", "Field", "Precision", "Reach", "adam", "adam_rows",
    "attend", "bias_corrections", "chain_reach", "check_precision", "compute", "deduplicate", "dropout", "errors",
    "expert_mixture",
    "funnel_losses", "gather", "independent_reach", "keep_freed_memory", "linear", "linear_bank", "logits", "mlp_bank",
    "op", "random_bits", "reach", "scatter_add", "scatter_add_bags", "self_attention",
    "softmax_gates", "step_attention", "step_losses", "unique",
]  # fmt: skip
