"""Layers in plain numpy, number by number, written from the paper; and parameters drawn for both."""

import math
from collections.abc import Callable, Sequence
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


def has_derivatives(function: Callable[..., Tensor], inputs: Sequence[Tensor]) -> bool:
    """Whether the first and second derivatives of a number agree with differences, by all inputs at once."""
    sizes, shapes = [each.numel() for each in inputs], [each.shape for each in inputs]

    def of_vector(vector: Tensor) -> Tensor:
        parts = zip(vector.split(sizes), shapes, strict=True)
        return function(*(part.view(shape) for part, shape in parts))

    vector = torch.cat([each.detach().flatten() for each in inputs]).requires_grad_()
    first = torch.autograd.gradcheck(of_vector, [vector], fast_mode=True)
    return first and torch.autograd.gradgradcheck(of_vector, [vector], fast_mode=True)


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
        messages = [
            relu(linear(new[i], weights[f"information.{i}_{t}.weight"].T, weights[f"information.{i}_{t}.bias"]))
            for i, target in edges
            if target == t
        ]
        names = [f"{part}.{t}.weight" for part in ("query", "key", "value")]
        new.append(attend([*messages, own], *(weights[name] for name in names)) if messages else own)
    return new


def pooled(vectors: Sequence[Floats], weights: Sequence[float], pool: str, width: int) -> Floats:
    """One vector (E,) of those of a list, as `layers.lists.Pool` says."""
    total, size = np.zeros(width), 0.0
    for vector, weight in zip(vectors, weights, strict=True):
        total += vector if pool == "mean" else weight * vector
        size += abs(weight) if pool == "weighted_mean" else 1.0
    return total / size if pool != "sum" and size > 0 else total


def placed(vectors: Sequence[Floats], positions: Floats) -> list[Floats]:
    """Elements with the vector of their age; what is older than all ages has the last one."""
    ages = range(len(vectors) - 1, -1, -1)
    return [vector + positions[min(age, len(positions) - 1)] for vector, age in zip(vectors, ages, strict=True)]


def attend_to(
    target: Floats, vectors: Sequence[Floats], weights: dict[str, Floats], copies: int, softmaxed: bool
) -> Floats:
    """DIN's sum (N · E,) over the elements of one row, copy by copy."""
    if "positions.weight" in weights:
        vectors = placed(vectors, weights["positions.weight"])
    width, parts = len(target) // copies, []
    for n in range(copies):
        t, own = (target[n * width :][:width], [vector[n * width :][:width] for vector in vectors])
        first = (weights["first.weight"][n], weights["first.bias"][n])
        read = [relu(linear(np.concatenate([h, t, h - t, h * t]), *first)) for h in own]
        read = [perceptron(x, weights, n, "rest.layers.") for x in read]
        scores = [linear(x, weights["score.weight"][n], weights["score.bias"][n]).item() for x in read]
        scores = softmax(scores) if softmaxed and scores else scores
        total = np.zeros(width)
        for a, h in zip(scores, own, strict=True):
            total += a * h
        parts.append(total)
    return np.concatenate(parts)


def normalise(x: Floats) -> Floats:
    mean = sum(x) / len(x)
    variance = sum((v - mean) ** 2 for v in x) / len(x)
    return np.array([(v - mean) / math.sqrt(variance + 1e-5) for v in x])


def encode(
    vectors: Sequence[Floats], weights: dict[str, Floats], n: int, heads: int, kept: float = 1.0
) -> list[Floats]:
    """One layer of encoder n over the elements of a row; `kept`: what is left of a number after dropout."""

    def apply(bank: str, x: Floats) -> Floats:
        bias = weights.get(f"{bank}.bias")
        return linear(x, weights[f"{bank}.weight"][n], None if bias is None else bias[n])

    def norm(i: int, x: Floats) -> Floats:
        normed: Floats = normalise(x) * weights[f"norms.{i}.scale"][n, 0] + weights[f"norms.{i}.bias"][n, 0]
        return normed

    query, key, value = ([apply(bank, x) for x in vectors] for bank in ("query", "key", "value"))
    width = len(vectors[0]) // heads
    out = []
    for i, x in enumerate(vectors):
        messages = []
        for part in (slice(h * width, (h + 1) * width) for h in range(heads)):
            scores = [float(query[i][part] @ other[part]) / math.sqrt(width) for other in key]
            messages.append(sum(a * v[part] for a, v in zip(softmax(scores), value, strict=True)))
        x = norm(0, x + kept * apply("mix", np.concatenate(messages)))
        out.append(norm(1, x + apply("narrow", kept * relu(apply("wide", x)))))
    return out


def encode_all(
    vectors: Sequence[Floats], weights: dict[str, Floats], shape: tuple[int, int], kept: float = 1.0
) -> Floats:
    """`TransformerPooling` of one row, (N · E,); `shape`: copies and heads."""
    copies, heads = shape
    layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers."))
    width = weights["positions.weight"].shape[1] // copies
    vectors, parts = placed(vectors, weights["positions.weight"]), []
    for n in range(copies):
        own = [vector[n * width :][:width] for vector in vectors]
        for layer in range(layers if own else 0):
            prefix = f"layers.{layer}."
            mine = {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}
            own = encode(own, mine, n, heads, kept)
        parts.append(np.mean(own, axis=0) if own else np.zeros(width))
    return np.concatenate(parts)
