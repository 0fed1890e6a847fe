"""ONNX for operations of PyTorch that the exporter writes in a form which loses digits, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from funnelcast.runtime.extras import require_extra

INT32, INT64 = 6, 7
"""Types, as ONNX numbers them."""


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """By operation of PyTorch, what writes it."""
    stable, aten = Stable(require_extra("onnxscript", "onnx", "exporting to ONNX").opset18), torch.ops.aten
    found: dict[Callable[..., Any], Callable[..., Any]] = {
        aten.log1p.default: stable.log1p,
        aten.expm1.default: stable.expm1,
        aten.log_sigmoid.default: stable.log_sigmoid,
        aten.log_sigmoid_forward.default: stable.log_sigmoid_forward,
        aten.sigmoid.default: stable.sigmoid,
        aten.searchsorted.Tensor: stable.searchsorted,
        aten.bucketize.Tensor: stable.bucketize,
    }
    return {target: partial(write) for target, write in found.items()}  # to which the exporter adds attributes


class Stable:
    """Functions that keep their digits for every input, in its type."""

    def __init__(self, op: Any) -> None:
        """`op`: ONNX's operators."""
        self.op = op

    def _one(self, x: Any) -> Any:
        return self.op.CastLike(self.op.Constant(value_float=1.0), x)

    def log1p(self, x: Any) -> Any:
        """Write x · log(u) / (u − 1) with u = 1 + x as rounded, whose rounding cancels (Kahan); x where u is 1."""
        op, one = self.op, self._one(x)
        u = op.Add(one, x)
        is_tiny = op.Equal(u, one)
        difference = op.Where(is_tiny, one, op.Sub(u, one))
        return op.Where(is_tiny, x, op.Mul(op.Log(u), op.Div(x, difference)))

    def expm1(self, x: Any) -> Any:
        """Write (u − 1) · x / log(u) with u = exp(x) as rounded (Kahan); x where u is 1, −1 where u − 1 is."""
        op, one = self.op, self._one(x)
        u = op.Exp(x)
        difference = op.Sub(u, one)
        is_tiny, is_gone = op.Equal(u, one), op.Equal(difference, op.Neg(one))
        logarithm = op.Log(op.Where(op.Or(is_tiny, is_gone), op.Exp(one), u))
        return op.Where(is_tiny, x, op.Where(is_gone, difference, op.Mul(difference, op.Div(x, logarithm))))

    def log_sigmoid(self, x: Any) -> Any:
        """Write min(x, 0) − log(1 + exp(−|x|))."""
        op = self.op
        return op.Sub(op.Min(x, op.Sub(x, x)), self.log1p(op.Exp(op.Neg(op.Abs(x)))))

    def log_sigmoid_forward(self, x: Any) -> Any:
        """With what its gradient needs, which nobody reads."""
        return self.log_sigmoid(x), x

    def sigmoid(self, x: Any) -> Any:
        """Write 1 / (1 + exp(−x)), which ONNX Runtime's own clamps."""
        op, one = self.op, self._one(x)
        return op.Div(one, op.Add(one, op.Exp(op.Neg(x))))

    def searchsorted(self, edges: Any, x: Any, out_int32: bool = False, right: bool = False) -> Any:
        """The number of edges below x, or with `right` of those not above it: a binary search, unrolled."""
        op, size = self.op, _whole(self.op, edges.shape[0])
        compare = op.LessOrEqual if right else op.Less
        found = op.Cast(op.Less(x, x), to=INT64)  # zeros
        for i in reversed(range(edges.shape[0].bit_length())):
            probe = op.Add(found, _whole(op, 1 << i))
            edge = op.Gather(edges, op.Sub(op.Min(probe, size), _whole(op, 1)))
            found = op.Where(op.And(op.LessOrEqual(probe, size), compare(edge, x)), probe, found)
        return op.Cast(found, to=INT32) if out_int32 else found

    def bucketize(self, x: Any, edges: Any, out_int32: bool = False, right: bool = False) -> Any:
        """`searchsorted` with its operands the other way round."""
        return self.searchsorted(edges, x, out_int32, right)


def _whole(op: Any, value: int) -> Any:
    return op.Constant(value_int=value)
