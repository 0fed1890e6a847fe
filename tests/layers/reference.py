"""Layers in plain numpy, number by number, written from the paper; and parameters drawn for both."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Floats = NDArray[np.float64]


def randomise(module: nn.Module, seed: int = 0, scale: float = 0.7) -> None:
    """Every parameter from N(0, scale), biases too: where one is 0, a formula without it would pass."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))


def draw(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def arrays(module: nn.Module) -> dict[str, Floats]:
    return {name: tensor.detach().double().numpy() for name, tensor in module.state_dict().items()}


def linear(x: Floats, weight: Floats, bias: Any = None) -> Floats:
    """x (in,), weight (in, out)."""
    total = np.zeros(weight.shape[1])
    for j in range(weight.shape[1]):
        for i in range(len(x)):
            total[j] += x[i] * weight[i, j]
        if bias is not None:
            total[j] += bias[j]
    return total


def relu(x: Floats) -> Floats:
    return np.array([max(0.0, v) for v in x])


def softmax(z: list[float]) -> list[float]:
    exponentials = [math.exp(v - max(z)) for v in z]
    return [e / sum(exponentials) for e in exponentials]


def perceptron(x: Floats, weights: dict[str, Floats], n: int, prefix: str = "layers.") -> Floats:
    """Network n of a bank: ReLU after every layer."""
    for i in range(sum(name.startswith(prefix) and name.endswith(".weight") for name in weights)):
        x = relu(linear(x, weights[f"{prefix}{i}.weight"][n], weights[f"{prefix}{i}.bias"][n]))
    return x


def attend(tokens: list[Floats], query: Floats, key: Floats, value: Floats) -> Floats:
    """Σ_i softmax_i(⟨q_i, k_i⟩ / √H) v_i, with matrices (out, in) as `nn.Linear` keeps them."""
    q, k, v = ([linear(u, matrix.T) for u in tokens] for matrix in (query, key, value))
    scores = [sum(a * b for a, b in zip(qi, ki, strict=True)) / math.sqrt(len(qi)) for qi, ki in zip(q, k, strict=True)]
    total: Floats = np.sum([w * vi for w, vi in zip(softmax(scores), v, strict=True)], axis=0)
    return total


def attend_along(edges: Sequence[tuple[int, int]], vectors: list[Floats], weights: dict[str, Floats]) -> list[Floats]:
    """The new vectors (H,) per step of one row: each step's tokens are its earlier steps', attended already, and its
    own."""
    new: list[Floats] = []
    for t, own in enumerate(vectors):
        told = [
            relu(linear(new[i], weights[f"information.{i}_{t}.weight"].T, weights[f"information.{i}_{t}.bias"]))
            for i, target in edges
            if target == t
        ]
        names = [f"{part}.{t}.weight" for part in ("query", "key", "value")]
        new.append(attend([*told, own], *(weights[name] for name in names)) if told else own)
    return new
