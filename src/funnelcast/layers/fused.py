"""Experts and their mixture as one hand-written autograd function, expert by expert.

Each expert's activations are made, mixed and differentiated while they are in cache; one wide or batched product would
send them through memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Seen(NamedTuple):
    """Gate `step` sees `expert`; its weight is column `column` of the gate weights."""

    step: int
    expert: int
    column: int


class FusedExperts(torch.autograd.Function):
    """m_t = Σ_n w_tn f_n(x) with every f_n a perceptron with ReLU after each layer.

    The backward pass holds no graph: asking for a second derivative raises, where saved intermediates alone would give
    a wrong one without an error.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gates: Tensor, seen: Sequence[Seen], steps: int, *parameters: Tensor) -> Tensor:
        """x (B, D), gates (B, K), then weight (N, in, out) and bias (N, out) per layer -> (T, B, H)."""
        weights, biases = parameters[0::2], parameters[1::2]
        layers = [x.new_empty(len(w), len(x), w.shape[2]) for w in weights]
        mixed = x.new_zeros(steps, len(x), weights[-1].shape[2])
        columns = gates.t().contiguous().unsqueeze(2)
        for n in range(len(weights[0])):
            h = x
            for weight, bias, out in zip(weights, biases, layers, strict=True):
                h = torch.addmm(bias[n], h, weight[n], out=out[n]).relu_()
            for step, _, column in _of(seen, n):
                mixed[step].addcmul_(columns[column], h)
        ctx.seen = seen
        ctx.save_for_backward(x, columns, *weights, *layers)
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, columns, *saved = ctx.saved_tensors
        weights, layers = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        grad_x = torch.zeros_like(x)
        grad_columns = torch.empty_like(columns)
        grads = [(torch.empty_like(w), w.new_empty(len(w), w.shape[2])) for w in weights]
        for n in range(len(weights[0])):
            g = _unmix(grad, layers[-1][n], _of(ctx.seen, n), columns, grad_columns)
            for i in reversed(range(len(weights))):
                torch.ops.aten.threshold_backward(g, layers[i][n], 0, grad_input=g)
                torch.mm((layers[i - 1][n] if i else x).t(), g, out=grads[i][0][n])
                torch.sum(g, 0, out=grads[i][1][n])
                g = g @ weights[i][n].t() if i else grad_x.addmm_(g, weights[0][n].t())
        return (grad_x, grad_columns.squeeze(2).t(), None, None, *(tensor for pair in grads for tensor in pair))


def _of(seen: Sequence[Seen], expert: int) -> list[Seen]:
    return [s for s in seen if s.expert == expert]


def _unmix(grad: Tensor, output: Tensor, seen: Sequence[Seen], columns: Tensor, grad_columns: Tensor) -> Tensor:
    """The gradient (B, H) of one expert's output; writes those of its gate weights into `grad_columns` (K, B, 1)."""
    total = torch.zeros_like(output)
    for step, _, column in seen:
        total.addcmul_(columns[column], grad[step])
        torch.sum(grad[step] * output, 1, keepdim=True, out=grad_columns[column])
    return total
